"""Operators that work index by index: the output shares its operands' labels wherever they are not broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import Axes
from ..node import ALL, Node, couples

UNARY = [
    "ai.onnx.ml:Binarizer",
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]
BROADCAST = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]


@couples(*UNARY, unshared=ALL)
def unary(n: Node) -> Sequence[Axes]:
    return [n.axes(0)]


@couples(*BROADCAST, unshared=ALL)
def broadcast(n: Node) -> Sequence[Axes]:
    """Before operator set 7 the second operand may align with any axis."""
    if n.attr("broadcast", 0):
        return n.frozen("broadcasts by rules of its own")
    return [n.meet_inputs(*range(len(n.inputs)))]


@couples("Clip", unshared=ALL)
def clip(n: Node) -> Sequence[Axes]:
    """The bounds are scalars."""
    return [n.axes(0)]


@couples("CastLike", unshared=ALL)
def cast_like(n: Node) -> Sequence[Axes]:
    """The second operand lends its element type only, so its axes must merely stay."""
    n.freeze_rest(1, text="lends its element type, not its axes")
    return [n.axes(0)]


@couples("Dropout", unshared=ALL)
def dropout(n: Node) -> Sequence[Axes]:
    """In inference mode: the mask, if asked for, has the input's shape."""
    training = n.value(2) if n.has(2) else False
    if training is None or bool(training):
        return n.frozen("draws random numbers over it")
    return [n.axes(0)] * len(n.proto.output)
