"""What a model costs: parameters, multiply-accumulates of floats and of bits, bytes of weights, peak memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .bits import BITS_A_MAC, DOMAIN, bit_macs, bit_operator
from .decoded import Decoded, decoded_weights
from .dtypes import bits, is_float, is_number, stored_bytes
from .errors import BadModel
from .index import index_of
from .io.inline import inlined
from .macs import Dims, formula
from .model import Model
from .nodes import (
    alive,
    all_graphs,
    all_nodes,
    attribute,
    captured_names,
    display_name,
    formal_dims,
    is_standard,
    reads,
    refill,
    subgraphs,
)
from .shapes import Shapes
from .traits import Trait, has, operator


@dataclass(frozen=True)
class NodeCost:
    """One node. ``params`` counts the weights it reads, also those that other nodes read too.

    ``bops`` are multiply-accumulates of one bit with another, which ``macs`` leaves out.
    """

    name: str
    op: str
    macs: int
    params: int
    out_shape: Dims | None
    bops: int = 0


@dataclass(frozen=True)
class Cost:
    """Costs of one run with every symbolic dimension 1.

    ``params`` counts each float weight once, and integers and bits that stand for floats; ``weight_bytes`` is what the
    weights take in the file. ``nodes`` follows the order of the graph. ``uncounted`` names nodes whose MACs are not
    known because a shape is not. ``bops`` are multiply-accumulates of one bit with another; ``macs`` are all others.
    ``bit_params`` are the parameters that the file keeps as bits.
    """

    params: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    nodes: list[NodeCost]
    uncounted: list[str]
    bops: int = 0
    bit_params: int = 0

    @property
    def equivalent_macs(self) -> float:
        """MACs, those of bits counted as a 64th.

        Source: Qin et al., "BiBench", ICML 2023, arXiv:2301.11233.
        """
        return self.macs + self.bops / BITS_A_MAC


def cost(model: Model, outer: Collection[str] | None = None) -> Cost:
    """Count what ``model`` costs; where it is a body, without the weights named ``outer``, which the graph around it has.

    Of an ``If`` the larger branch counts, of a ``Loop`` or ``Scan`` one turn, and nothing of a node that no output
    depends on: no runtime runs it. Peak memory is that of the tensors alive at once in the order of the nodes, none
    computed in place.
    """
    known = index_of(model).shapes
    params = {name: count for name, count in parameters(model, known).items() if name not in (outer or ())}
    inside: list[Cost] = []
    unseen: list[onnx.GraphProto | onnx.FunctionProto] = []
    if outer is None:
        unseen += [function for function in model.proto.functions if function.domain != DOMAIN]
    nodes: list[NodeCost] = []
    uncounted: list[str] = []
    inner_peaks: dict[int, int] = {}
    run, _ = alive(model.graph.node, (o.name for o in model.graph.output))
    for index, node in enumerate(model.graph.node):
        inner, within = _inner_costs(model, node, known), list(subgraphs(node))
        macs: int | None
        bops = 0 if inner else node_bops(node, known)
        inside += inner if within and inner else ()
        unseen += within if inner is None else ()
        if inner:
            macs, bops = max(c.macs for c in inner), max(c.bops for c in inner)
            inner_peaks[index] = max(c.peak_activation_bytes for c in inner)
            uncounted += [f"{display_name(node)}/{name}" for c in inner for name in c.uncounted]
        else:
            macs = node_macs(node, known) if inner is not None else None
        if not run[index]:
            macs = bops = 0
        if macs is None or bops is None:
            uncounted.append(display_name(node))
        read = sum(params.get(name, 0) for name in dict.fromkeys((*node.input, *node.output)))
        read += sum(c.params for c in inner or () if within)
        out_shape = known.dims.get(node.output[0]) if node.output else None
        nodes.append(NodeCost(display_name(node), node.op_type, macs or 0, read, out_shape, bops or 0))
    return Cost(
        params=sum(params.values()) + sum(c.params for c in inside) + sum(map(_unseen_params, unseen)),
        macs=sum(n.macs for n in nodes),
        weight_bytes=weight_bytes(model, outer or ()) + sum(c.weight_bytes for c in inside),
        peak_activation_bytes=_peak(model, known, inner_peaks),
        nodes=nodes,
        uncounted=uncounted,
        bops=sum(n.bops for n in nodes),
        bit_params=sum(_bit_parameters(decoded_weights(model), known).values()) + sum(c.bit_params for c in inside),
    )


def parameters(model: Model, shapes: Shapes) -> dict[str, int]:
    """Number of parameters in each top-level tensor that has any.

    These are float weights, integer weights that a quantized operator reads in their place, what a
    ``ConstantOfShape`` of fixed shape makes in the place of a weight, and what is decoded from bits. Scales and zero
    points are none.
    """
    stands_for_float, scales, other = _roles(model)
    packed = {
        node.input[position]: 8 // max(1, int(attribute(node, "bits", row.code_bits)))
        for node in model.graph.node
        if (row := operator(node)).code_bits
        for position in row.codes
        if position < len(node.input)
    }
    decoded = decoded_weights(model)
    found = {**_bit_parameters(decoded, shapes), **_digit_parameters(model, decoded, shapes)}
    for name, weight in model.weights.items():
        if name in decoded.codes or name in decoded.signs:
            continue
        if is_float(shapes.dtypes[name]):
            counts = name not in scales or name in other
        else:
            counts = name in stands_for_float and is_number(shapes.dtypes[name])
        if counts:
            found[name] = weight.size * (packed.get(name, 1) if weight.dtype == np.uint8 else 1)
    for node in model.graph.node:
        if decoded.steps.intersection(node.output):
            continue
        made = node.op_type == "ConstantOfShape" and node.input[0] in model.weights
        if (made or node.op_type == "Constant") and is_standard(node):
            (name,) = node.output
            if is_float(shapes.dtypes.get(name, 0)) and name in shapes.dims:
                found[name] = prod(shapes.dims[name])
    return found


def _bit_parameters(decoded: Decoded, shapes: Shapes) -> dict[str, int]:
    """Weights that the file keeps as bits, by the tensor that holds or decodes them."""
    made = {n: prod(shapes.dims[n]) for n in decoded.made if n in shapes.dims and is_float(shapes.dtypes.get(n, 0))}
    return {**made, **decoded.signs}


def _digit_parameters(model: Model, decoded: Decoded, shapes: Shapes) -> dict[str, int]:
    """Weights that the file keeps as integers in parts of bytes, likewise."""
    made = {n: prod(shapes.dims[n]) for n in decoded.digits if n in shapes.dims and is_float(shapes.dtypes.get(n, 0))}
    for name, table in decoded.rows.items():
        if table in shapes.dims:
            made[name] = prod(
                (*model.weights[name].shape[:1], *model.weights[name].shape[-1:], *shapes.dims[table][1:])
            )
    return made


def weight_bytes(model: Model, outer: Collection[str] = ()) -> int:
    """Bytes the top-level weights take in a file."""
    kinds = (
        (w.size, helper.np_dtype_to_tensor_dtype(w.dtype)) for name, w in model.weights.items() if name not in outer
    )
    return sum(stored_bytes(size, kind) for size, kind in kinds if kind != TensorProto.STRING)


def _inner_costs(model: Model, node: onnx.NodeProto, shapes: Shapes) -> list[Cost] | None:
    """Costs of the graphs inside a node; None where they cannot be worked out."""
    try:
        return [cost(body, model.weights) for body in _bodies(model, node, shapes)]
    except BadModel:
        return None


def node_macs(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """MACs of one node, None where a shape that its formula needs is not known."""
    rule = formula(node)
    if rule is None:
        return 0
    if any(name and name not in shapes.dims for name in (*node.input, *node.output[:1])):
        return None
    try:
        return rule(node, *([shapes.dims.get(name, ()) for name in names] for names in (node.input, node.output)))
    except (IndexError, TypeError, ValueError):  # too few inputs or dimensions: the model is wrong there
        return None


def node_bops(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """Multiply-accumulates of one bit with another in one node, None where a shape is not known."""
    if not has(node, Trait.ON_BITS):
        return 0
    if any(name and name not in shapes.dims for name in (*node.input, *node.output)):
        return None
    return bit_macs(node, [shapes.dims[name] if name else () for name in node.input], shapes.dims[node.output[0]])


def _roles(model: Model) -> tuple[set[str], set[str], set[str]]:
    """Names read as quantized weights, as scales or zero points, and in any other way.

    Small integers that a Cast makes floats of are weights, and what these are multiplied by are scales.
    """
    quantized: set[str] = set()
    scales: set[str] = set()
    other: set[str] = set()
    restored: set[str] = set()
    made = {n.input[0] for n in model.graph.node if n.op_type == "Cast" and is_float(attribute(n, "to", 0))}
    for node in model.graph.node:
        first = model.weights.get(node.input[0]) if node.input else None
        if (
            node.op_type == "Gather"
            and first is not None
            and _is_small_integer(first)
            and made.intersection(node.output)
        ):
            quantized.add(node.input[0])  # rows of a table
        if node.op_type == "Cast" and first is not None and _is_small_integer(first):
            quantized.add(node.input[0])
            restored.update(node.output)
            continue
        if node.op_type in ("Mul", "Sub") and node.input[0] in restored:
            scales.add(node.input[1])
            restored.update(node.output)
            continue
        stored, scaled = _positions(node)
        for position, name in enumerate(node.input):
            (quantized if position in stored else scales if position in scaled else other).add(name)
    return quantized, scales, other


def _positions(node: onnx.NodeProto) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The inputs that hold what was a float weight, and those that only say how it is scaled."""
    known = bit_operator(node)
    if known is not None:
        return known.thresholds, known.scales
    row = operator(node)
    if row.like_of[0] < 0:  # every third is data, a scale and a zero point stand between
        return (), tuple(i for i in range(len(node.input)) if (i + row.like_of[0]) % 3)
    return row.codes, row.scales


def _is_small_integer(weight: np.ndarray) -> bool:
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    return is_number(kind) and not is_float(kind) and bits(kind) <= 8


def _unseen_params(body: onnx.GraphProto | onnx.FunctionProto) -> int:
    """Parameters of a function, or of a body in which shapes are not known."""
    held = [t for part in all_graphs(body) for t in getattr(part, "initializer", ()) if is_float(t.data_type)]
    return sum(prod(t.dims) for t in held) + sum(_constant_params(all_nodes(body)))


def _constant_params(nodes: Iterable[onnx.NodeProto]) -> Iterator[int]:
    for node in nodes:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, TensorProto) and is_float(value.data_type):
            yield prod(value.dims)


def _peak(model: Model, shapes: Shapes, inner: Mapping[int, int]) -> int:
    """Most bytes of tensors alive at once. What follows from weights alone is no activation."""
    graph = model.graph
    fixed = set(model.weights)
    last = {i.name: -1 for i in graph.input}
    for index, node in enumerate(graph.node):
        read = reads(node)
        if fixed.issuperset(read) and not has(node, Trait.RANDOM):
            fixed.update(node.output)
            continue
        last.update((name, index) for name in (*read, *node.output) if name and name not in fixed)
    last.update((o.name, len(graph.node)) for o in graph.output)
    dying: dict[int, list[str]] = {}
    for name, index in last.items():
        dying.setdefault(index, []).append(name)
    alive = sum(_size(i.name, shapes) for i in graph.input)
    peak = alive
    alive -= sum(_size(name, shapes) for name in dying.get(-1, ()))
    for index, node in enumerate(graph.node):
        alive += sum(_size(name, shapes) for name in node.output if name in last)
        peak = max(peak, alive + inner.get(index, 0))
        alive -= sum(_size(name, shapes) for name in dying.get(index, ()))
    return peak


def _size(name: str, shapes: Shapes) -> int:
    if name not in shapes.dims or name not in shapes.dtypes:
        return 0
    return stored_bytes(prod(shapes.dims[name]), shapes.dtypes[name])


def _bodies(model: Model, node: onnx.NodeProto, shapes: Shapes) -> Iterator[Model]:
    """The graphs that run inside a node, as models of their own: branches, loop bodies, a called function."""
    if has(node, Trait.ON_BITS):
        return
    if not is_standard(node) and any((f.domain, f.name) == (node.domain, node.op_type) for f in model.proto.functions):
        yield _called(model, node, shapes)
        return
    for graph in subgraphs(node):
        body = onnx.GraphProto()
        body.CopyFrom(graph)
        weights = {t.name: numpy_helper.to_array(t) for t in body.initializer}
        del body.initializer[:]
        for value, dims in zip(
            body.input, formal_dims(node, [shapes.dims.get(name) for name in node.input]), strict=False
        ):
            if dims is not None and not value.type.tensor_type.HasField("shape"):
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(value.name, kind, dims))
        for name in sorted(captured_names(node)):
            if name in model.weights:
                weights[name] = model.weights[name]
            elif name in shapes.dtypes:
                body.input.append(helper.make_tensor_value_info(name, shapes.dtypes[name], shapes.dims.get(name)))
        yield Model(_around(model, body), weights)


def _called(model: Model, node: onnx.NodeProto, shapes: Shapes) -> Model:
    """A function call as a model of its own, with the function's body in the place of the call."""
    graph = onnx.GraphProto(name="call", node=[node])
    for name in dict.fromkeys(node.input):
        if name and name not in model.weights:
            graph.input.append(helper.make_tensor_value_info(name, shapes.dtypes.get(name, 0), shapes.dims.get(name)))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    weights = {name: model.weights[name] for name in node.input if name in model.weights}
    for name, weight in weights.items():
        graph.input.append(helper.make_tensor_value_info(name, shapes.dtypes[name], weight.shape))
    made = inlined(_around(model, graph))
    refill(made.graph.input, [i for i in made.graph.input if i.name not in weights])
    return Model(made, weights)


def _around(model: Model, graph: onnx.GraphProto) -> onnx.ModelProto:
    return onnx.ModelProto(
        ir_version=model.proto.ir_version,
        opset_import=model.proto.opset_import,
        functions=model.proto.functions,
        graph=graph,
    )
