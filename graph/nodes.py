"""Reading protobuf nodes: attributes, operands and what subgraphs capture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

import numpy as np
import onnx

from .model import Model
from .traits import DEFAULT_DOMAINS, Trait, operator, operators

Length = TypeVar("Length")
_WITH_BODIES = operators(Trait.BODIES)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute; strings come decoded, lists as lists."""
    for a in node.attribute:
        if a.name == name:
            value = onnx.helper.get_attribute_value(a)
            if isinstance(value, bytes):
                return value.decode("utf-8", "replace")
            if a.type == onnx.AttributeProto.STRINGS:
                return [v.decode("utf-8", "replace") for v in value]
            return list(value) if a.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value
    return default


def copied(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute in place, whether it was there or not."""
    fresh = onnx.helper.make_attribute(name, value)
    for a in node.attribute:
        if a.name == name:
            a.CopyFrom(fresh)
            return
    node.attribute.append(fresh)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs that the node holds as attributes (the bodies of If, Loop, Scan)."""
    for a in node.attribute:
        if a.type == onnx.AttributeProto.GRAPH:
            yield a.g
        elif a.type == onnx.AttributeProto.GRAPHS:
            yield from a.graphs


def all_graphs(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Any]:
    """The graph, and the bodies in it."""
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from all_graphs(body)


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Nodes of the graph, and of the bodies in it."""
    return (node for part in all_graphs(graph) for node in part.node)


def tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of all tensors that the graph and the bodies in it make, hold or read."""
    for part in all_graphs(graph):
        yield from (v.name for v in (*part.input, *part.output, *part.initializer))
        yield from (s.values.name for s in part.sparse_initializer)
        yield from (name for node in part.node for name in (*node.input, *node.output))


def rename_tensors(graph: onnx.GraphProto, change: Callable[[str], str]) -> None:
    """Change the names of all tensors, in bodies too, in place."""
    for part in all_graphs(graph):
        for value in (*part.input, *part.output, *part.value_info, *part.initializer):
            value.name = change(value.name)
        for sparse in part.sparse_initializer:
            sparse.values.name = change(sparse.values.name)
        for node in part.node:
            for names in (node.input, node.output):
                names[:] = [change(name) if name else "" for name in names]


def captured_names(node: onnx.NodeProto) -> set[str]:
    """Names of outer tensors that the node's subgraphs read."""
    if node.op_type not in _WITH_BODIES and node.domain in DEFAULT_DOMAINS:
        return set()
    return {name for graph in subgraphs(node) for name in captured_by(graph)}


def captured_by(graph: onnx.GraphProto) -> set[str]:
    """Names of outer tensors that a body reads."""
    names: set[str] = set()
    inner = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    for n in graph.node:
        names.update(name for name in (*n.input, *captured_names(n)) if name and name not in inner)
        inner.update(n.output)
    return names.union(v.name for v in graph.output if v.name not in inner)


def formal_dims(node: onnx.NodeProto, given: Sequence[Sequence[Length] | None]) -> list[Sequence[Length] | None]:
    """Shapes that the inputs of a body get from those of the node's own inputs."""
    dims = list(given)
    if node.op_type == "Loop":
        return [(), (), *dims[2:]]
    if node.op_type == "Scan":
        scanned = int(attribute(node, "num_scan_inputs", 0))
        axes = attribute(node, "scan_input_axes", None) or [0] * scanned
        for place, axis in zip(range(max(0, len(dims) - scanned), len(dims)), axes, strict=False):
            whole = dims[place]
            dims[place] = [n for a, n in enumerate(whole) if a != axis % len(whole)] if whole else None
    return dims


def body_ends(node: onnx.NodeProto) -> tuple[int, int] | None:
    """How many inputs a body of the node has, and how many outputs at least; None where nobody says."""
    if node.op_type == "If":
        return 0, len(node.output)
    if node.op_type == "Loop":
        return max(2, len(node.input)), max(len(node.input) - 1, len(node.output) + 1)
    if node.op_type == "Scan":
        return len(node.input), max(len(node.input) - int(attribute(node, "num_scan_inputs", 0)), len(node.output))
    return None


def reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names of the tensors that the node reads, one for each operand, and those that its subgraphs read."""
    return (*filter(None, node.input), *sorted(captured_names(node)))


def constant_value(node: onnx.NodeProto) -> np.ndarray | None:
    """Value of a ``Constant`` node; None for the kinds that stay nodes (strings, sparse)."""
    if len(node.attribute) != 1:
        return None
    (a,) = node.attribute
    if a.name == "value" and a.type == onnx.AttributeProto.TENSOR and a.t.data_type != onnx.TensorProto.STRING:
        return onnx.numpy_helper.to_array(a.t).copy()
    if a.name in ("value_float", "value_floats"):
        return np.array(onnx.helper.get_attribute_value(a), dtype=np.float32)
    if a.name in ("value_int", "value_ints"):
        return np.array(onnx.helper.get_attribute_value(a), dtype=np.int64)
    return None


def is_standard(node: onnx.NodeProto) -> bool:
    return node.domain in DEFAULT_DOMAINS


def display_name(node: onnx.NodeProto) -> str:
    """What a reader can find the node by: its name, else its first output."""
    return node.name or next((o for o in node.output if o), node.op_type)


def saturation(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """The limits beyond which all numbers come out alike, as of Relu and Clip; None without such, or computed ones."""
    limits, names = operator(node).saturation, node.input[1:]
    if limits is None or any(name and name not in weights for name in names):
        return None
    operands = [float(weights[name].reshape(-1)[0]) if name else None for name in names]
    known = signature(limits).parameters
    return limits(*operands, **{a.name: attribute(node, a.name) for a in node.attribute if a.name in known})


def as_ints(value: np.ndarray | Iterable[int]) -> list[int]:
    return [int(v) for v in np.asarray(value).reshape(-1)]


def refill(field: Any, members: Iterable[Any]) -> None:
    """Make these the members of a repeated field; some of them may be its own."""
    kept = list(members)
    del field[:]
    field.extend(kept)


def declare_weights(
    graph: onnx.GraphProto, weights: Mapping[str, np.ndarray], is_shown: Callable[[np.ndarray], bool]
) -> None:
    """Give a graph some weights as initializers; the others are inputs, of which it sees shape and type."""
    for name, weight in weights.items():
        if is_shown(weight):
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(weight), name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, weight.shape))


def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are alike to the last bit."""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Make these the graph's nodes; some of them may be its own."""
    bytes_ = [n.SerializeToString() for n in nodes]
    del graph.node[:]
    graph.node.extend([onnx.NodeProto.FromString(b) for b in bytes_])


def alive(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> tuple[list[bool], set[str]]:
    """Of each node whether an output depends on it, and all tensors that those read or outputs are."""
    needed = set(outputs)
    found: list[bool] = []
    for node in reversed(nodes):
        keep = not any(node.output) or any(o in needed for o in node.output if o)
        if keep:
            needed.update(reads(node))
        found.append(keep)
    return found[::-1], needed


def drop_dead(model: Model) -> None:
    """Remove nodes whose results nobody reads, then constants nobody reads."""
    kept, needed = alive(model.graph.node, (o.name for o in model.graph.output))
    if not all(kept):
        replace_nodes(model.graph, [n for n, keep in zip(model.graph.node, kept, strict=True) if keep])
    for name in [k for k in model.weights if k not in needed]:
        del model.weights[name]
