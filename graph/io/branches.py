"""Values for graph inputs, and branches whose condition is known, which take the place of their node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import onnx

from ..coupling.constancy import constants
from ..errors import BadModel, UsageError
from ..evaluate import evaluates
from ..index import index_of
from ..model import Model
from ..nodes import attribute, is_standard, reads, rename_tensors, replace_nodes, subgraphs, tensor_names
from ..readings import readings
from ..traits import Trait, has
from .canonicalize import canonicalize


def pin_inputs(model: Model, values: Mapping[str, Any]) -> None:
    """Make graph inputs constants, by name, and put branches that are then known to be taken in the place of their ``If``.

    One number fills the whole input, free dimensions of which become 1.

    Raises:
        UsageError: an input does not exist, or does not take the value.
    """
    inputs = {i.name: i for i in model.graph.input}
    for name, value in values.items():
        if name not in inputs:
            raise UsageError(f"there is no graph input {name!r}", fix=f"inputs are: {', '.join(inputs) or 'none'}")
        pinned = _fitting(inputs[name], value)
        pinned.flags.writeable = False
        model.weights[name] = pinned
        model.graph.input.remove(inputs[name])
        model.notes.append(f"input {name!r} is a constant now, {_told(pinned)}: the model no longer takes it")
    if values:
        canonicalize(model)
    inline_branches(model)


def _fitting(port: onnx.ValueInfoProto, value: Any) -> np.ndarray:
    what, given = f"{value!r} is no value for graph input {port.name!r}", np.asarray(value)
    if port.type.WhichOneof("value") != "tensor_type":
        raise UsageError(what, why="it is no tensor")
    tensor = port.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    try:
        array = given.astype(dtype)
        same = dtype.kind not in "iub" or np.array_equal(array.astype(given.dtype), given)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise UsageError(what, why=f"it takes {dtype}")
    wanted = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if not tensor.HasField("shape") or (len(wanted) == given.ndim and all(map(_fits, wanted, given.shape))):
        return array
    if given.ndim:
        raise UsageError(what, why=f"it has the shape {','.join('?' if d is None else str(d) for d in wanted)}")
    return np.full([1 if d is None else d for d in wanted], array)


def _fits(wanted: int | None, given: int) -> bool:
    return wanted is None or wanted == given


def _told(value: np.ndarray) -> str:
    return str(value.reshape(-1)[0]) if value.size == 1 else f"{value.size} numbers"


def inline_branches(model: Model) -> None:
    """Put the branch that is taken in the place of every ``If`` of the graph whose condition no input can change.

    Nodes and weights that only the condition was made of, or only the other branch read, go.
    """
    if not any(node.op_type == "If" for node in model.graph.node):
        return
    count, notes = 0, list(model.notes)
    read = {name for name, uses in index_of(model).uses.items() if uses}
    read.update(name for node in model.graph.node for body in subgraphs(node) for name in tensor_names(body))
    while found := _decided(model):
        nodes: list[onnx.NodeProto] = []
        for place, node in enumerate(model.graph.node):
            nodes += _inlined(model, node, found[place]) if place in found else [node]
        replace_nodes(model.graph, nodes)
        _part_titles(model.graph)
        canonicalize(model)
        count += len(found)
    if count:
        _drop_unread(model, read)
        branches = "its branch" if count == 1 else "the branches that are taken"
        model.notes = [*notes, f"{count} If whose condition is known became {branches}"]


def _decided(model: Model) -> dict[int, onnx.GraphProto]:
    """The branches that are taken, by the place of their node."""
    nodes = [(k, n) for k, n in enumerate(model.graph.node) if n.op_type == "If" and is_standard(n)]
    known: Mapping[str, np.ndarray] = model.weights
    if any(node.input[0] not in known and _follows(model, node.input[0]) for _, node in nodes):
        with suppress(BadModel):  # what contradicts itself is told where it matters
            known = {**constants(model, readings(model)), **known}
    taken = {k: (n, known[n.input[0]]) for k, n in nodes if n.input[0] in known}
    return {
        k: attribute(node, "then_branch" if value.all() else "else_branch")
        for k, (node, value) in taken.items()
        if value.size == 1
    }


def _follows(model: Model, name: str) -> bool:
    """Whether a tensor may follow from sizes and constants alone."""
    todo, seen, makers = [name], set(model.weights), index_of(model).makers
    while todo:
        name = todo.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        node = makers.get(name)
        if node is None or not (has(node, Trait.SHAPE_ONLY) or evaluates(node)):
            return False
        todo += () if has(node, Trait.SHAPE_ONLY) else node.input
    return True


def _inlined(model: Model, node: onnx.NodeProto, branch: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch, its constants among the model's; its outputs have the names of the node's."""
    own = Counter(name for graph in subgraphs(node) for name in tensor_names(graph))
    taken = {*(Counter(tensor_names(model.graph)) - own), *model.weights}
    body = onnx.GraphProto()
    body.CopyFrom(branch)
    made = dict.fromkeys(name for n in body.node for name in n.output if name)
    held = [t.name for t in body.initializer] + [s.values.name for s in body.sparse_initializer]
    renamed = {name: _free(name, node.output[0], taken) for name in (*made, *held)}
    for value, name in zip(body.output, node.output, strict=True):
        if name and value.name in made and renamed[value.name] not in node.output:
            renamed[value.name] = name
    ends = [renamed.get(value.name, value.name) for value in body.output]
    rename_tensors(body, lambda name: renamed.get(name, name))
    for tensor in body.initializer:
        model.weights[tensor.name] = onnx.numpy_helper.to_array(tensor).copy()
        model.weights[tensor.name].flags.writeable = False
    model.graph.sparse_initializer.extend(body.sparse_initializer)
    yield from body.node
    for made_as, name in zip(ends, node.output, strict=True):
        if made_as != name and name:
            yield onnx.helper.make_node("Identity", [made_as], [name])


def _free(name: str, prefix: str, taken: set[str]) -> str:
    """The name, behind a prefix where it is taken; it is taken from now on."""
    while name in taken:
        name = f"{prefix}/{name}"
    taken.add(name)
    return name


def _part_titles(graph: onnx.GraphProto) -> None:
    """Nodes of branches may have had one name; in one graph they may not."""
    taken: set[str] = set()
    for node in graph.node:
        if node.name:
            node.name = _free(node.name, node.output[0], taken)


def _drop_unread(model: Model, read: set[str]) -> None:
    """Drop nodes and weights that were read once and are no longer."""
    wanted = {o.name for o in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output) or not read.intersection(node.output):
            kept.append(node)
            wanted.update(reads(node))
    replace_nodes(model.graph, kept[::-1])
    for name in [n for n in model.weights if n in read and n not in wanted]:
        del model.weights[name]
