"""The original with removed channels zeroed where they are consumed: what a pruned model must equal."""

from __future__ import annotations

import numpy as np
import onnx

from ..model import Model
from ..nodes import replace_nodes
from .analyse import Coupling
from .labels import Why
from .node import Contraction
from .surgery import Removal, follow, sliced


def masked(removal: Removal) -> Model:
    """A copy of the original model in which nothing that went is heard of.

    Entries of weights that removed channels meet are set to zero; where a summed axis meets no weight, a 0/1 mask
    multiplies the operand. Normalizations and means over a removed channel have no such equal: around those (and only
    if ``removal`` contains inexact channels) what stays is gathered, the node works on that, and its result is spread
    to the full width again.
    """
    coupling = removal.coupling
    model = coupling.original.copy()
    by_output = {_made(n): i for i, n in enumerate(model.graph.node)}
    before: dict[int, list[onnx.NodeProto]] = {}
    after: dict[int, list[onnx.NodeProto]] = {}
    narrowed = {i for i in coupling.trace.narrowed if _narrows(coupling, removal, i)}
    parted = set(coupling.prepared.base.values())
    for contraction in coupling.trace.contractions:
        if contraction.node not in narrowed:
            _silence(removal, model, contraction, by_output, before, parted)
    for index in narrowed:
        at = by_output[_made(coupling.nodes[index])]
        first, last = _narrow(removal, model, index, model.graph.node[at])
        before.setdefault(at, []).extend(first)
        after.setdefault(at, []).extend(last)
    nodes = []
    for at, node in enumerate(model.graph.node):
        nodes.extend([*before.get(at, ()), node, *after.get(at, ())])
    replace_nodes(model.graph, nodes)
    return model


def _made(node: onnx.NodeProto) -> str:
    """The first tensor that a node makes: what it can be found by in another copy of the graph."""
    return next((o for o in node.output if o), "")


def _narrows(coupling: Coupling, removal: Removal, index: int) -> bool:
    """Whether an axis that the node normalizes or averages over loses indices."""
    return any(removal.keep(axis) is not None for axis in coupling.trace.narrowed[index])


def _silence(
    removal: Removal,
    model: Model,
    c: Contraction,
    by_output: dict[str, int],
    before: dict[int, list[onnx.NodeProto]],
    parted: set[str],
) -> None:
    coupling = removal.coupling
    old = coupling.nodes[c.node]
    axis = coupling.axes(old.input[c.position])[c.axis]
    mask = removal.keep(axis)
    if mask is None or isinstance(axis, Why):
        return
    at = by_output[_made(old)]
    node = model.graph.node[at]
    name = node.input[c.position]
    if name in model.weights:
        weight = model.weights[name]
        fill = _neutral(model, node, c)
        if name in parted:
            # Other nodes use it index by index, each on its own: they must not see the zeros.
            name = f"{name}_masked_{at}"
            node.input[c.position] = name
        model.weights[name] = _filled(weight, c.axis, ~mask, fill)
        return
    rank = len(coupling.prepared.shapes.dims[old.input[c.position]])
    before.setdefault(at, []).append(_mask_node(removal, model, node, c, mask, rank))


def _neutral(model: Model, node: onnx.NodeProto, c: Contraction) -> np.ndarray | int:
    if c.neutral < 0 or c.neutral >= len(node.input) or not node.input[c.neutral]:
        return 0
    return model.weights[node.input[c.neutral]]


def _filled(weight: np.ndarray, axis: int, gone: np.ndarray, fill: np.ndarray | int) -> np.ndarray:
    out = np.array(weight)
    view = np.moveaxis(out, axis, -1)
    values = np.asarray(fill, dtype=weight.dtype)
    if values.ndim == 1 and values.size > 1:
        # One zero point per output channel: the first axis of a convolution's weight, the last of a matrix.
        at = 0 if axis != 0 else weight.ndim - 1
        shape = [1] * weight.ndim
        shape[at] = values.size
        spread = np.moveaxis(np.broadcast_to(values.reshape(shape), weight.shape), axis, -1)
        view[..., gone] = spread[..., gone]
    else:
        view[..., gone] = values.reshape(-1)[0]
    return out


def _mask_node(
    removal: Removal, model: Model, node: onnx.NodeProto, c: Contraction, mask: np.ndarray, rank: int
) -> onnx.NodeProto:
    """``Mul`` by zeros and ones in front of an operand."""
    name = node.input[c.position]
    kind = removal.coupling.prepared.shapes.dtypes[removal.coupling.nodes[c.node].input[c.position]]
    shape = [1] * rank
    shape[c.axis] = len(mask)
    stem = f"{node.output[0]}_mask{c.position}_{c.axis}"
    model.weights[f"{stem}_const"] = mask.reshape(shape).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    node.input[c.position] = stem
    return onnx.helper.make_node("Mul", [name, f"{stem}_const"], [stem], name=stem)


def _narrow(
    removal: Removal, model: Model, index: int, node: onnx.NodeProto
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Let a node work on what stays, and spread its result; returns what must stand before and after it."""
    coupling = removal.coupling
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    old = coupling.nodes[index]
    inputs, outputs = list(node.input), list(node.output)
    edited = follow(coupling, removal, model, index, node)
    for i, name in enumerate(old.input):
        masks = removal.tensor(name) if name else {}
        if masks and inputs[i] in model.weights:
            key = f"{outputs[0]}_narrow{i}"
            model.weights[key] = sliced(model.weights[inputs[i]], masks)
            node.input[i] = key
            continue
        for axis, mask in masks.items():
            node.input[i] = _gather(
                model, first, node.input[i], f"{outputs[0]}_narrow{i}_{axis}", axis, np.flatnonzero(mask)
            )
    place = edited.index(node)
    first.extend(edited[:place])
    last.extend(edited[place + 1 :])
    for name in outputs:
        masks = removal.tensor(name) if name else {}
        if not masks:
            continue
        inner = f"{name}_kept"
        _rename(node, last, name, inner)
        for k, (axis, mask) in enumerate(masks.items()):
            spread = np.where(mask, np.cumsum(mask) - 1, 0)
            target = name if k == len(masks) - 1 else f"{name}_kept_{axis}"
            inner = _gather(model, last, inner, target, axis, spread)
    return first, last


def _rename(node: onnx.NodeProto, after: list[onnx.NodeProto], name: str, fresh: str) -> None:
    for n in (node, *after):
        for j, output in enumerate(n.output):
            if output == name:
                n.output[j] = fresh


def _gather(model: Model, nodes: list[onnx.NodeProto], source: str, target: str, axis: int, indices: np.ndarray) -> str:
    model.weights[f"{target}_indices"] = np.asarray(indices, dtype=np.int64)
    nodes.append(onnx.helper.make_node("Gather", [source, f"{target}_indices"], [target], name=target, axis=axis))
    return target
