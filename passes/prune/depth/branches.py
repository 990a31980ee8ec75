"""Branches of residual sums: what goes when one operand of a sum does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ....graph.cost import node_macs
from ....graph.errors import UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ....graph.nodes import alive, copied, display_name, is_standard, replace_nodes
from ....graph.readings import readings
from ....graph.spec import near
from ...patterns import chosen


@dataclass(frozen=True)
class Branch:
    """``tensor`` is added to ``stays``, which makes ``total``; ``nodes`` are the first outputs of what goes with it."""

    name: str
    total: str
    tensor: str
    stays: str
    nodes: frozenset[str]
    macs: int
    params: int


def branches(model: Model, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Branch]:
    """All that multiply, in graph order; of the two operands of a sum the one that costs more."""
    index, read = index_of(model), readings(model)
    found = []
    for node in index.nodes:
        if node.op_type != "Add" or not is_standard(node) or index.constant & {*node.input}:
            continue
        a, b = node.input
        if a == b or any(a not in one.dims or one.dims[a] != one.dims.get(b) for one in (read.first, *read.others)):
            continue
        best = max((_branch(model, node, place) for place in (0, 1)), key=lambda one: one.macs)
        if best.macs:
            found.append(best)
    alike = Counter(one.name for one in found)
    found = [
        replace(one, name=f"{one.name}..{index.names[one.total]}") if alike[one.name] > 1 else one for one in found
    ]
    alike = Counter(one.name for one in found)
    found = [replace(one, name=one.total) if alike[one.name] > 1 else one for one in found]
    names = [_names(model, one) for one in found]
    return [found[k] for k in sorted(chosen(names, include, exclude))]


def named(found: Sequence[Branch], names: Sequence[str]) -> list[Branch]:
    """Of these branches those of these names. Raises UsageError where there is none such."""
    known = {one.name: one for one in found}
    if unknown := next((name for name in names if name not in known), None):
        raise UsageError(f"`branches`: there is no branch {unknown!r} that can go", fix=near(unknown, known))
    return [one for one in found if one.name in names]


def _branch(model: Model, node: onnx.NodeProto, place: int) -> Branch:
    """What no output needs without this operand."""
    index, shapes = index_of(model), index_of(model).shapes
    nodes = [without(one, 1 - place) if one is node else one for one in index.nodes]
    kept, needed = alive(nodes, index.outputs)
    gone = [one for one, keep in zip(index.nodes, kept, strict=True) if not keep]
    weights = {name for one in gone for name in one.input if name in model.weights and name not in needed}
    return Branch(
        _name(gone, node),
        node.output[0],
        node.input[place],
        node.input[1 - place],
        frozenset(one.output[0] for one in gone if one.output),
        sum(node_macs(one, shapes) or 0 for one in gone),
        sum(model.weights[name].size for name in weights),
    )


def _name(gone: Sequence[onnx.NodeProto], total: onnx.NodeProto) -> str:
    """The path that its nodes have in common, as exporters write them; else its first node."""
    names = [display_name(one) for one in gone] or [display_name(total)]
    paths = [name.split("/")[:-1] for name in names]
    common = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    path = "/".join(common).rstrip("/")
    return path if path and len(names) > 1 else f"{names[0]}..{display_name(total)}"


def _names(model: Model, branch: Branch) -> set[str]:
    index = index_of(model)
    nodes = [index.makers[name] for name in (*branch.nodes, branch.total)]
    return {
        branch.name,
        *(display_name(n) for n in nodes),
        *(name for n in nodes for name in (*n.input, *n.output) if name),
    }


def without(node: onnx.NodeProto, stays: int) -> onnx.NodeProto:
    """The sum as one of its operands."""
    return onnx.helper.make_node("Identity", [node.input[stays]], node.output, node.name)


def dropped(model: Model, gone: Iterable[Branch]) -> Model:
    """Without these branches; sums keep their names, as nodes that hand on what stays."""
    stays = {one.total: one.stays for one in gone}
    small = model.copy()
    nodes = [
        without(node, list(node.input).index(stays[node.output[0]]))
        if node.output and node.output[0] in stays
        else node
        for node in model.graph.node
    ]
    kept, needed = alive(nodes, (o.name for o in model.graph.output))
    replace_nodes(small.graph, [node for node, keep in zip(nodes, kept, strict=True) if keep])
    small.weights = {name: value for name, value in model.weights.items() if name in needed}
    return small


def zeroed(model: Model, gone: Iterable[Branch]) -> Model:
    """With these branches computed and multiplied by zero."""
    tensors = {one.total: one.tensor for one in gone}
    masked = model.copy()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        tensor = tensors.get(node.output[0]) if node.output else None
        if tensor is not None:
            node, zero = copied(node), f"{tensor}/zero"
            kind = onnx.helper.tensor_dtype_to_np_dtype(index_of(model).shapes.dtypes[tensor])
            masked.put(zero, np.zeros((), kind))
            nodes.append(onnx.helper.make_node("Mul", [tensor, zero], [f"{tensor}/gone/{node.output[0]}"]))
            node.input[list(node.input).index(tensor)] = nodes[-1].output[0]
        nodes.append(node)
    replace_nodes(masked.graph, nodes)
    return masked
