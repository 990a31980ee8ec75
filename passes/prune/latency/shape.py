"""A node as a thing with a few lengths that can be set: what it would be if its axes were shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from ....graph.coupling import Coupling
from ....graph.coupling.labels import Axis, Why
from ....graph.nodes import attribute, copied, is_standard, set_attribute
from ....graph.shapes import Shapes
from ....graph.traits import Trait, has_any
from ....measure.optime.block import UNIT
from ....measure.optime.probe import Layer, Operand, describe

RESIZABLE = Trait.CONVOLVES | Trait.MULTIPLIES
"""Operators whose attributes do not name the lengths that shrink, the groups of a depthwise Conv aside."""
MOST_AXES = 2
Widths = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """An operand whose axis ``a`` is ``dims[a]`` long or, where ``follows[a]`` is not -1, as long as that width."""

    dims: tuple[int, ...]
    follows: tuple[int, ...]
    dtype: int
    constant: bool

    def at(self, widths: Sequence[int]) -> Operand:
        lengths = tuple(d if k < 0 else int(widths[k]) for d, k in zip(self.dims, self.follows, strict=True))
        return Operand(lengths, self.dtype, self.constant)


@dataclass(frozen=True)
class Shape:
    """A node and the axes of it that can shrink, axes that always shrink together being one.

    ``lengths`` are their full lengths, ``places`` where they are in the coupling's axis table. ``blocked`` says that
    the runtime fills widths up to whole blocks, ``channels`` which axis must suit for that, None if it is fixed.
    ``integers`` says that it will be computed in integers of 8 bits.
    """

    node: onnx.NodeProto
    operands: tuple[Form | None, ...]
    opsets: dict[str, int]
    lengths: Widths
    places: tuple[int, ...]
    blocked: bool = False
    channels: int | None = None
    integers: bool = False

    def at(self, widths: Sequence[int]) -> Layer:
        """The node with its axes that long."""
        operands = [form.at(widths) if form else None for form in self.operands]
        node, data, weight = self.node, operands[0], operands[1] if len(operands) > 1 else None
        if attribute(node, "group", 1) > 1 and data and weight:
            node = copied(self.node)
            set_attribute(node, "group", data.dims[1] // weight.dims[1])
        return _in_integers(node, operands, self.opsets) if self.integers else describe(node, operands, self.opsets)


def shape_of(
    coupling: Coupling, index: int, shapes: Shapes, constant: frozenset[str], *, integers: bool = False
) -> Shape | None:
    """A node that can be measured at any width; None for others. ``constant`` names tensors that no input changes.

    With ``integers`` convolutions by constants are what they will be in 8 bits.
    """
    node = coupling.nodes[index]
    if not has_any(node, RESIZABLE) or not is_standard(node) or any(i and i not in shapes.dims for i in node.input):
        return None
    keys: dict[bytes, int] = {}
    lengths: dict[int, int] = {}
    places: dict[int, int] = {}
    operands: list[Form | None] = []
    for name in node.input:
        dims, follows = shapes.dims.get(name, ()), []
        for length, axis in zip(dims, coupling.axes(name) or [None] * len(dims), strict=True):
            key = _key(coupling, axis)
            k = -1 if key is None else keys.setdefault(key, len(keys))
            follows.append(k)
            if k >= 0:
                lengths[k], places[k] = length, coupling.axis_table.places[id(axis)]
        operands.append(Form(dims, tuple(follows), shapes.dtypes[name], name in constant) if name else None)
    if len(keys) > MOST_AXES or not _groups_follow(node, operands):
        return None
    opsets = {o.domain: o.version for o in coupling.model.proto.opset_import}
    integers = integers and node.op_type == "Conv" and operands[1] is not None and operands[1].constant
    blocked, channels = (False, None) if integers else _blocking(node, operands)
    axes = tuple(lengths.values()), tuple(places.values())
    return Shape(node, tuple(operands), opsets, *axes, blocked, channels, integers)


def _in_integers(node: onnx.NodeProto, operands: Sequence[Operand | None], opsets: dict[str, int]) -> Layer:
    """A Conv as QLinearConv, every tensor with a scale and a zero point."""
    data, weight, *biases = operands
    assert data is not None
    assert weight is not None
    scale, zero = Operand((), TensorProto.FLOAT, True), Operand((), TensorProto.UINT8, True)
    rows = Operand((weight.dims[0],), TensorProto.FLOAT, True), Operand((weight.dims[0],), TensorProto.INT8, True)
    whole = Operand(weight.dims, TensorProto.INT8, True)
    bias = [Operand(one.dims, TensorProto.INT32, True) for one in biases if one]
    made = onnx.helper.make_node("QLinearConv", ["x"] * (8 + len(bias)), ["y"])
    made.attribute.extend(node.attribute)
    inputs = Operand(data.dims, TensorProto.UINT8, data.constant)
    return describe(made, [inputs, scale, zero, whole, *rows, scale, zero, *bias], opsets)


def _key(coupling: Coupling, axis: Axis | None) -> bytes | None:
    """What an axis that can shrink has in common with those that always shrink with it; None for one that cannot."""
    if axis is None or isinstance(axis, Why) or id(axis) not in coupling.axis_table.places:
        return None
    classes: np.ndarray = coupling.solution.classes[axis]
    return None if (coupling.solution.reason[classes] >= 0).all() else classes.tobytes()


def _groups_follow(node: onnx.NodeProto, operands: Sequence[Form | None]) -> bool:
    """Whether the number of groups is known at any width: one group, or one for each channel."""
    if attribute(node, "group", 1) == 1 and attribute(node, "offset_group", 1) == 1:
        return True
    data, weight = operands[0], operands[1]
    if node.op_type != "Conv" or data is None or weight is None:
        return False
    return weight.dims[1] == 1 and data.dims[1] == weight.dims[0] and data.follows[1] == weight.follows[0]


def _blocking(node: onnx.NodeProto, operands: Sequence[Form | None]) -> tuple[bool, int | None]:
    """Whether the node can run in blocks of channels, and which of its axes decides."""
    data = operands[0]
    if node.op_type != "Conv" or data is None:
        return False, None
    if data.follows[1] >= 0:
        return True, data.follows[1]
    return data.dims[1] % UNIT == 0 or data.dims[1] < UNIT, None
