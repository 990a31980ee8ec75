"""Which of the small tensors that are known at one reading are the same at every size of the free dimensions.

What agrees at several sizes and is made by polynomials alone agrees at all sizes: a polynomial that is no constant
takes a value at few places. What went through anything else (a limit, a comparison, a rounded quotient) may saturate
at all the sizes that were tried, and is no constant wherever what it was made of varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from ..evaluate import evaluate
from ..model import Model
from ..nodes import is_standard
from ..readings import Readings
from ..shapes import Shapes
from ..traits import Trait, has, operator

BoolArray: TypeAlias = NDArray[np.bool_]


def constants(model: Model, read: Readings) -> dict[str, np.ndarray]:
    """Values that no size changes."""
    if not read.others:
        return dict(read.first.values)
    walk = _Walk(model, read)
    walk.run()
    second = read.others[0].values
    found = {k: v for k, v in read.first.values.items() if k in second and not walk.unsettled(k).any()}
    return {k: v for k, v in found.items() if v.size or _keeps_shape(read, k)}


def _keeps_shape(read: Readings, name: str) -> bool:
    """Of a tensor without numbers, of which none differs: whether its other lengths are the same at every size."""
    shape = read.first.values[name].shape
    return all(one.values[name].shape == shape for one in read.others if name in one.values)


class _Walk:
    """What is known of each number by the name of its tensor: ``rough`` numbers were made by more than polynomials."""

    def __init__(self, model: Model, read: Readings) -> None:
        self.model, self.read = model, read
        self.rough: dict[str, BoolArray] = {}
        self._unsettled: dict[str, BoolArray] = {}

    def run(self) -> None:
        values = self.read.first.values
        for node in self.model.graph.node:
            made = [name for name in node.output if name in values]
            if not made:
                continue
            for name, rough in zip(made, self._made(node, [values[name].shape for name in made]), strict=True):
                self.rough[name] = rough

    def unsettled(self, name: str) -> BoolArray:
        """The numbers that are not the same at every size, as far as can be told."""
        if name in self.model.weights:
            return np.zeros(self.model.weights[name].shape, bool)
        if name not in self._unsettled:
            self._unsettled[name] = self.rough[name] | self._differs(name)
        return self._unsettled[name]

    def _differs(self, name: str) -> BoolArray:
        value = self.read.first.values[name]
        found = np.zeros(value.shape, bool)
        for other in self.read.others:
            there = other.values.get(name)
            if there is not None:
                same = there.shape == value.shape and there.dtype == value.dtype
                found |= there != value if same else np.True_
        return found

    def _made(self, node: onnx.NodeProto, shapes: Sequence[tuple[int, ...]]) -> list[BoolArray]:
        if has(node, Trait.SHAPE_ONLY):
            return [np.zeros(shape, bool) for shape in shapes]
        unsettled = [self.unsettled(name) if name else None for name in node.input]
        if not any(u is not None and u.any() for u in unsettled):
            return [np.zeros(shape, bool) for shape in shapes]
        rough = [None if u is None else self.rough.get(name, u) for name, u in zip(node.input, unsettled, strict=True)]
        if has(node, Trait.MOVES):
            return self._moved(node, rough, unsettled, shapes)
        if has(node, Trait.POLYNOMIAL) or self._widens(node):
            return [_spread(node, rough, shape) for shape in shapes]
        if node.op_type == "Div" and is_standard(node):
            return [_spread(node, [*rough, self._inexact(node, unsettled)], shape) for shape in shapes]
        return [_spread(node, unsettled, shape) for shape in shapes]

    def _moved(
        self,
        node: onnx.NodeProto,
        rough: Sequence[BoolArray | None],
        unsettled: Sequence[BoolArray | None],
        shapes: Sequence[tuple[int, ...]],
    ) -> list[BoolArray]:
        """Numbers that are moved stay what they are; where a number goes must not depend on a size."""
        row = operator(node)
        settings = [u for i, u in enumerate(unsettled) if not row.is_data(i)]
        chosen = _spread(node, settings, shapes[0])
        if chosen.any() and not has(node, Trait.BROADCASTS):
            return [np.ones(shape, bool) for shape in shapes]
        first = self.read.first
        inputs = [r if row.is_data(i) else self._value(first, node.input[i]) for i, r in enumerate(rough)]
        moved = evaluate(node, inputs)
        if moved is None or [m.shape for m in moved] != list(shapes):
            return [np.ones(shape, bool) for shape in shapes]
        return [m.astype(bool) | chosen if chosen.any() else m.astype(bool) for m in moved]

    def _widens(self, node: onnx.NodeProto) -> bool:
        """Whether a Cast hands on integers as they are."""
        if node.op_type != "Cast" or not is_standard(node):
            return False
        value, made = self._value(self.read.first, node.input[0]), self._value(self.read.first, node.output[0])
        return value is not None and value.dtype.kind in "iu" and made is not None and made.dtype.itemsize >= 4

    def _inexact(self, node: onnx.NodeProto, unsettled: Sequence[BoolArray | None]) -> BoolArray:
        """Where a quotient is rounded in some reading, or is that of a number that varies by one that does not.

        The latter may leave no remainder at all sizes that were tried, and one at others.
        """
        dividend, divisor = (u for u in unsettled if u is not None)
        either = dividend | divisor
        found = np.broadcast_to(~divisor, either.shape).copy()
        for shapes in (self.read.first, *self.read.others):
            a, b = (self._value(shapes, name) for name in node.input)
            if a is None or b is None:
                continue
            with np.errstate(all="ignore"):
                rest = np.where(b == 0, 1, np.mod(a, b)) != 0
            found |= rest if rest.shape == either.shape else np.True_
        return found & either

    def _value(self, shapes: Shapes, name: str) -> np.ndarray | None:
        return shapes.values.get(name, self.model.weights.get(name))


def _spread(node: onnx.NodeProto, parts: Sequence[BoolArray | None], shape: tuple[int, ...]) -> BoolArray:
    """True wherever one of the operands' numbers that a number is made of is."""
    found = np.zeros(shape, bool)
    for part in parts:
        if part is None or not part.any():
            continue
        if has(node, Trait.ELEMENTWISE) and np.broadcast_shapes(part.shape, shape) == shape:
            found |= part
        else:
            return np.ones(shape, bool)
    return found
