"""What is known of a function of one number without evaluating it everywhere.

A function either rises or falls over all numbers (rounding keeps that: each operator rounds monotonically), or it is
constant between a few cuts. One rule an operator says which, given what its operands are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.nodes import attribute
from ....graph.registry import registers
from ....graph.traits import Trait, operators

Evaluate = Callable[[np.ndarray], np.ndarray]
"""A function on points (P, C), channel by channel."""


@dataclass(frozen=True)
class Monotone:
    """Rises (1), falls (-1) or stays (0) in each channel. Shapes: direction (C,)."""

    direction: np.ndarray


@dataclass(frozen=True)
class Pieces:
    """Constant from one cut to the next. Shapes: cuts (n, C), each the first number of a piece, in no order."""

    cuts: np.ndarray


Kind = Monotone | Pieces
Operand = Kind | np.ndarray
"""A constant operand is given as its values, shape (C,) or (1,)."""
Rule = Callable[[onnx.NodeProto, Sequence[Operand | None]], Kind | None]
RULES: dict[str, Rule] = {}


rule = registers(RULES)


def kind(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    """What is known of a node's output; None where no rule covers it. Comparisons are left to :func:`conditions`."""
    kinds = [o for o in operands if isinstance(o, (Monotone, Pieces))]
    if kinds and all(isinstance(k, Pieces) for k in kinds):
        return Pieces(np.concatenate([k.cuts for k in kinds if isinstance(k, Pieces)]))
    found = RULES.get(node.op_type)
    return found(node, operands) if found and not any(isinstance(k, Pieces) for k in kinds) else None


@dataclass(frozen=True)
class Condition:
    """Where the value of a rising or falling function passes ``level``: at it (``at``) or only above it."""

    level: np.ndarray
    at: bool

    def holds(self, values: np.ndarray) -> np.ndarray:
        return values >= self.level if self.at else values > self.level


_ORDERED = {op for op in operators(Trait.ELEMENTWISE | Trait.SAME_SHAPE | Trait.IN_ORDER) if ":" not in op} - {"Sign"}
"""Standard functions of one number that rise or fall; ``Sign`` makes steps of it."""
_COMPARISONS = {
    "Less": (True,),
    "GreaterOrEqual": (True,),
    "Greater": (False,),
    "LessOrEqual": (False,),
    "Equal": (True, False),
}
_MIRRORED = {"Less": "Greater", "Greater": "Less", "LessOrEqual": "GreaterOrEqual", "GreaterOrEqual": "LessOrEqual"}


def conditions(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> tuple[int, list[Condition]] | None:
    """For an operator that makes steps of a monotone operand: its position, and where the output may change."""
    if node.op_type == "Sign":
        return 0, [Condition(np.zeros(1, np.float32), at) for at in (True, False)]
    if node.op_type not in (*_COMPARISONS, *_MIRRORED):
        return None
    position = 0 if isinstance(operands[0], Monotone) else 1
    level = operands[1 - position]
    if not isinstance(level, np.ndarray):
        return None
    op = node.op_type if position == 0 else _MIRRORED.get(node.op_type, node.op_type)
    return position, [Condition(level, at) for at in _COMPARISONS[op]]


def _split(operands: Sequence[Operand | None]) -> tuple[list[Monotone], list[np.ndarray]]:
    return (
        [o for o in operands if isinstance(o, Monotone)],
        [o for o in operands if isinstance(o, np.ndarray)],
    )


@rule("Add", "Min", "Max")
def _together(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    moving, _ = _split(operands)
    total = np.stack([m.direction for m in moving])
    agree = np.all(total >= 0, axis=0) | np.all(total <= 0, axis=0)
    return Monotone(np.sign(total.sum(axis=0))) if agree.all() else None


@rule("Sub")
def _sub(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    left, right = operands[:2]
    if isinstance(left, Monotone) and isinstance(right, np.ndarray):
        return left
    return Monotone(-right.direction) if isinstance(right, Monotone) and isinstance(left, np.ndarray) else None


@rule("Mul", "Div")
def _scaled(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    moving, by = _split(operands)
    if len(moving) != 1 or (node.op_type == "Div" and not isinstance(operands[0], Monotone)):
        return None
    return Monotone(moving[0].direction * np.sign(by[0]).astype(np.int8))


@rule(*_ORDERED & operators(Trait.FALLING))
def _neg(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    (x,) = operands
    return Monotone(-x.direction) if isinstance(x, Monotone) else None


@rule("BatchNormalization")
def _batch_norm(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    x, scale = operands[:2]
    if not isinstance(x, Monotone) or not isinstance(scale, np.ndarray) or attribute(node, "training_mode", 0):
        return None
    return Monotone(x.direction * np.sign(scale).astype(np.int8))


@rule(*_ORDERED & operators(Trait.RISING))
def _rising(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    x, *limits = operands
    return x if isinstance(x, Monotone) and not any(isinstance(o, Monotone) for o in limits) else None


@rule("LeakyRelu", "HardSigmoid")
def _rising_by_attribute(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    (x,) = operands
    return x if isinstance(x, Monotone) and attribute(node, "alpha", 0.01) >= 0 else None


@rule("PRelu")
def _prelu(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    x, slope = operands
    return x if isinstance(x, Monotone) and isinstance(slope, np.ndarray) and bool(np.all(slope >= 0)) else None


@rule("Cast")
def _cast(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    (x,) = operands
    return (
        x
        if isinstance(x, Monotone) and attribute(node, "to") in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
        else None
    )
