"""What is known of a function of one number without evaluating it everywhere.

A function either rises or falls over all numbers (rounding keeps that: each operator rounds monotonically), or it is
constant between a few cuts. One rule an operator says which, given what its operands are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ....graph.nodes import attribute
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


def kind(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    """What is known of a node's output; None where no rule covers it. Comparisons are left to :func:`conditions`."""
    kinds = [o for o in operands if isinstance(o, (Monotone, Pieces))]
    if kinds and all(isinstance(k, Pieces) for k in kinds):
        return Pieces(np.concatenate([k.cuts for k in kinds if isinstance(k, Pieces)]))
    found = RULES.get(node.op_type)
    return found(node, operands) if found and kinds and not any(isinstance(k, Pieces) for k in kinds) else None


@dataclass(frozen=True)
class Condition:
    """Where the value of a rising or falling function passes ``level``: at it (``at``) or only above it."""

    level: np.ndarray
    at: bool

    def holds(self, values: np.ndarray) -> np.ndarray:
        return values >= self.level if self.at else values > self.level


_ORDERED = {op for op in operators(Trait.ELEMENTWISE | Trait.SAME_SHAPE | Trait.IN_ORDER) if ":" not in op} - {"Sign"}
"""Standard functions of one number that rise or fall; ``Sign`` makes steps of it."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
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


def _together(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
    total = np.stack([o.direction for o in operands if isinstance(o, Monotone)])
    agree = np.all(total >= 0, axis=0) | np.all(total <= 0, axis=0)
    return Monotone(np.sign(total.sum(axis=0))) if agree.all() else None


def _turned(factor: Callable[[onnx.NodeProto, Sequence[Operand | None]], Any], *, first: bool = True) -> Rule:
    """Of one operand that is no constant, the ``first`` if only that may be none: ``factor`` turns its direction."""

    def turn(node: onnx.NodeProto, operands: Sequence[Operand | None]) -> Kind | None:
        moving, by = [o for o in operands if isinstance(o, Monotone)], factor(node, operands)
        if by is None or len(moving) > 1 or (first and moving[0] is not operands[0]):
            return None
        return Monotone(moving[0].direction * by)

    return turn


def _sign(by: Operand | None) -> np.ndarray | None:
    return np.sign(by).astype(np.int8) if isinstance(by, np.ndarray) else None


_BY_ALPHA = _turned(lambda node, operands: 1 if attribute(node, "alpha", 0.01) >= 0 else None)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_ORDERED & operators(Trait.FALLING), _turned(lambda node, operands: -1)),
    **dict.fromkeys(_ORDERED & operators(Trait.RISING), _turned(lambda node, operands: 1)),
    "Add": _together,
    "Min": _together,
    "Max": _together,
    "Sub": _turned(lambda node, o: 1 if isinstance(o[0], Monotone) else -1, first=False),
    "Mul": _turned(lambda node, o: _sign(o[1 if isinstance(o[0], Monotone) else 0]), first=False),
    "Div": _turned(lambda node, o: _sign(o[1])),
    "BatchNormalization": _turned(lambda node, o: None if attribute(node, "training_mode", 0) else _sign(o[1])),
    "LeakyRelu": _BY_ALPHA,
    "HardSigmoid": _BY_ALPHA,
    "PRelu": _turned(lambda node, o: 1 if isinstance(o[1], np.ndarray) and bool(np.all(o[1] >= 0)) else None),
    "Cast": _turned(lambda node, o: 1 if attribute(node, "to") in _FLOATS else None),
}
