"""Merge linear layers: two in a row whose product is cheaper, and several that are added on the same input.

In a row: ``V (W x + a) + b = (V W) x + (V a + b)``. Side by side, as in RepVGG, kernels are added where they overlap,
and the input itself is a kernel of ones.

Source: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, arXiv:2101.03697.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from ...graph.layer import Floats, Layer, Window
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.nodes import is_standard
from ..rewrite.edit import Edit
from .fold import Work, affine_of

Found = tuple[set[int], Callable[[Edit], None]]
"""The nodes that go, by their ids, and what writes others in the place of the last of them."""


def merge_layers(model: Model) -> tuple[Model, int]:
    """A model with fewer layers, and how many went."""
    count = 0
    while (found := next(_merges(model), None)) is not None:
        model, count = _rewritten(model, found), count + 1
    return model, count


def _rewritten(model: Model, found: Found) -> Model:
    gone, write = found
    edit = Edit(model)
    nodes = list(model.graph.node)
    last = max(place for place, node in enumerate(nodes) if id(node) in gone)
    for place, node in enumerate(nodes):
        if id(node) not in gone:
            edit.keep(node)
        elif place == last:
            edit.replace(node)
            write(edit)
    return edit.finish()


def _merges(model: Model) -> Iterator[Found]:
    layers = Layers(model)
    for layer in layers:
        if (found := _in_a_row(layers, layer)) is not None:
            yield found
    for node in layers.index.nodes:
        if node.op_type == "Add" and is_standard(node) and (found := _side_by_side(layers, node)) is not None:
            yield found


def _own(layers: Layers, layer: Layer) -> bool:
    """Whether a layer may go: in float32, and nothing else reads what it makes on the way."""
    weight = layers.model.weights[layer.weight]
    return weight.dtype in (np.float32, np.float64) and is_standard(layers.index.nodes[layer.place])


def _nodes(layers: Layers, layer: Layer) -> set[int]:
    """A layer's node, and the Add that holds the bias of a MatMul."""
    places = {layer.place, layers.index.place[layer.output]}
    return {id(layers.index.nodes[place]) for place in places}


def _in_a_row(layers: Layers, after: Layer) -> Found | None:
    before = layers.by_output.get(after.x)
    if before is None or layers.index.uses[after.x] != 1 or not (_own(layers, before) and _own(layers, after)):
        return None
    if before.groups != 1 or after.groups != 1 or before.channels * before.positions == 0:
        return None
    product = _product(layers.model, before, after)
    if product is None:
        return None
    matrix, shape = product
    old = sum(prod(one.shape) for one in (before, after))
    if matrix.size >= old or any(layers.tied(one) for one in (before, after)):
        return None
    offset = _offset(layers.model, before, after)
    weight = before.unfolded(matrix / before.alpha, shape).astype(layers.model.weights[before.weight].dtype)
    node, output = layers.index.nodes[before.place], after.output
    if not (np.isfinite(weight).all() and (offset is None or np.isfinite(offset).all())):
        return None
    return _nodes(layers, before) | _nodes(layers, after), lambda edit: _write(
        edit, node, before, output, weight, offset
    )


def _product(model: Model, before: Layer, after: Layer) -> tuple[Floats, tuple[int, ...]] | None:
    """The matrix of both, and the shape of its weight."""
    first, second = (one.matrix(model.weights[one.weight])[0] for one in (before, after))
    both = (before.window is None) == (after.window is None) and before.operand == after.operand == 1
    if not both or (after.window is not None and not after.window.plain):
        return None
    if second.shape[1] != first.shape[0]:
        return None
    shape = tuple(len(second) if axis == before.axis else n for axis, n in enumerate(before.shape))
    return (second @ first)[None], shape


def _offset(model: Model, before: Layer, after: Layer) -> Floats | None:
    inner, outer = before.offset(model), after.offset(model)
    moved = None if inner is None else after.matrix(model.weights[after.weight])[0] @ inner[0]
    parts = [part for part in (moved, None if outer is None else outer[0]) if part is not None]
    return sum(parts[1:], parts[0]) if parts else None


def _write(edit: Edit, node: onnx.NodeProto, layer: Layer, output: str, weight: Floats, offset: Floats | None) -> None:
    """A layer like another, with another weight and offset."""
    dtype = weight.dtype
    made = onnx.NodeProto()
    made.CopyFrom(node)
    name = edit.constant(f"{layer.weight}_merged", np.ascontiguousarray(weight))
    bias = None if offset is None or not offset.any() else edit.constant(f"{layer.weight}_bias", offset.astype(dtype))
    with_bias = node.op_type != "MatMul"
    inputs = [layer.x, name, *([bias] if bias is not None and with_bias else [])]
    del made.input[:], made.output[:], made.attribute[:]
    made.attribute.extend(a for a in node.attribute if a.name != "beta")
    made.input.extend(inputs)
    apart = bias is not None and not with_bias
    made.output.append(edit.tensor(f"{output}_product") if apart else output)
    edit.keep(made)
    if bias is not None and apart:
        edit.add("Add", [made.output[0], bias], output)


@dataclass(frozen=True)
class _Branch:
    """A kernel that is applied to ``x``, and the nodes that go with it."""

    x: str
    weight: Floats
    bias: Floats
    window: Window
    groups: int
    nodes: set[int]
    layer: Layer | None = None


def _side_by_side(layers: Layers, node: onnx.NodeProto) -> Found | None:
    """The Conv that does what the two sides of a sum do."""
    sides = [_branch(layers, name) for name in node.input]
    lead = next((one for one in sides if one is not None), None)
    if lead is None or len(sides) != 2:
        return None
    a, b = (one or _identity(layers, name, lead) for one, name in zip(sides, node.input, strict=True))
    if a is None or b is None or a.x != b.x or a.groups != b.groups or a.weight.shape[:2] != b.weight.shape[:2]:
        return None
    large, small = (a, b) if a.window.kernel >= b.window.kernel else (b, a)
    place = _place(large.window, small.window)
    if place is None or large.layer is None:
        return None
    weight = large.weight.copy()
    weight[(slice(None), slice(None), *place)] += small.weight
    layer, offset = large.layer, large.bias + small.bias
    conv = layers.index.nodes[layer.place]
    found = weight.astype(layers.model.weights[layer.weight].dtype)
    if not (np.isfinite(found).all() and np.isfinite(offset).all()):
        return None
    return a.nodes | b.nodes | {id(node)}, lambda edit: _write(edit, conv, layer, node.output[0], found, offset)


def _place(large: Window, small: Window) -> tuple[slice, ...] | None:
    """Where a kernel lies in another that sees the same; None where it sees something else."""
    if large.pads is None or small.pads is None or large.strides != small.strides:
        return None
    ones = (1,) * len(large.kernel)
    if large.dilations != ones or (small.dilations != ones and small.kernel != ones):
        return None
    first = [b - s for b, s in zip(large.pads[0], small.pads[0], strict=True)]
    last = [e - s for e, s in zip(large.pads[1], small.pads[1], strict=True)]
    if any(
        f < 0 or e < 0 or f + k + e != n for f, e, k, n in zip(first, last, small.kernel, large.kernel, strict=True)
    ):
        return None
    return tuple(slice(f, f + k) for f, k in zip(first, small.kernel, strict=True))


def _branch(layers: Layers, name: str) -> _Branch | None:
    """The Conv that alone feeds a sum."""
    layer = layers.by_output.get(name)
    if layer is None or layer.window is None or layers.index.uses[name] != 1 or not _own(layers, layer):
        return None
    weight = layers.model.weights[layer.weight].astype(np.float64)
    offset = layer.offset(layers.model)
    bias = np.zeros(len(weight)) if offset is None else offset.reshape(-1)
    return _Branch(layer.x, weight, bias, layer.window, layer.groups, _nodes(layers, layer), layer)


def _identity(layers: Layers, name: str, lead: _Branch) -> _Branch | None:
    """The input itself, or what BatchNormalization makes of it, as a kernel of one position."""
    outputs, inside = lead.weight.shape[:2]
    rank = len(lead.window.kernel)
    if outputs != inside * lead.groups or set(lead.window.strides) != {1}:
        return None
    scale, shift, nodes = np.ones(outputs), np.zeros(outputs), set[int]()
    node = layers.index.makers.get(name)
    if name != lead.x:
        if node is None or node.op_type != "BatchNormalization" or layers.index.uses[name] != 1:
            return None
        found = affine_of(Work(layers.model), node)
        if isinstance(found, str) or node.input[0] != lead.x or len(found.scale) != outputs:
            return None
        scale, shift, nodes = found.scale, found.shift, {id(node)}
    weight = np.zeros((outputs, inside, *[1] * rank))
    rows = np.arange(outputs)
    weight[(rows, rows % inside, *[0] * rank)] = scale
    ones, zeros = (1,) * rank, (0,) * rank
    return _Branch(lead.x, weight, shift, Window(ones, ones, ones, (zeros, zeros)), lead.groups, nodes)
