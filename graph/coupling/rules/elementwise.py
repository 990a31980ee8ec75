"""Operators that work index by index: the output shares its operands' labels wherever they are not broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from ...traits import Trait, operators
from ..labels import Axes
from ..node import ALL, Node, couples

BROADCAST = operators(Trait.BROADCASTS)
UNARY = operators(Trait.ELEMENTWISE) - BROADCAST - {"CastLike"}


@couples(*UNARY, unshared=ALL)
def unary(n: Node) -> Sequence[Axes]:
    """What else an operator reads, as Clip its bounds, are scalars."""
    return [n.axes(0)]


@couples(*BROADCAST, unshared=ALL)
def broadcast(n: Node) -> Sequence[Axes]:
    """Before operator set 7 the second operand may align with any axis."""
    if n.attr("broadcast", 0):
        return n.frozen("broadcasts by rules of its own")
    return [n.meet_inputs(*range(len(n.inputs)))]


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


@couples("com.microsoft:BiasGelu", "com.microsoft:FastGelu", unshared=(1,))
def biased(n: Node) -> Sequence[Axes]:
    """A vector is added along the last axis before."""
    return [n.meet_inputs(0, 1)]
