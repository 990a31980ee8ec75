"""Operators on bits: channels that share bytes stay whole, those that come out as floats can go."""

from __future__ import annotations

from collections.abc import Sequence

from ...bits import DOMAIN, holds_signs
from ..labels import Axes, Axis
from ..node import Node, couples

_BYTES = "keeps eight channels in a byte"


def _named(*ops: str) -> tuple[str, ...]:
    return tuple(f"{DOMAIN}:{op}" for op in ops)


@couples(*_named("BitPack", "BMaxPool", "BConvBits", "BGemmBits"))
def bits(n: Node) -> Sequence[Axes]:
    """What comes out consists of bits, so that neither it nor the filters that make it can lose a channel."""
    why = n.why(_BYTES)
    n.freeze_rest(0, text=_BYTES)
    if holds_signs(n.proto) is not None:
        n.freeze(_outputs(n, (2,)), why)
    return [n.unlabelled(0, why)]


@couples(*_named("BConv"), unshared=(2, 3))
def convolution(n: Node) -> Sequence[Axes]:
    """Shapes: bits (N, H, W, bytes), W (P, O, bytes), scale and bias (O), y (N, O, H', W').

    Filters can go; of several groups the same ones in each, since the channels they read stay.
    """
    n.freeze_rest(0, 0, text=_BYTES)
    filters, groups = _outputs(n, (2, 3)), n.attr("group", 1)
    if groups > 1:
        feeding, _ = n.split(filters, (groups, n.dims(1)[1] // groups))
        n.freeze(feeding, n.why(_BYTES))
    why = n.why("slides a window over it")
    return [(n.axis(0, 0), filters, why, why)]


@couples(*_named("BGemm"), unshared=(2, 3))
def product(n: Node) -> Sequence[Axes]:
    """Shapes: bits (..., bytes), W (P, N, bytes), scale and bias (N), y (..., N)."""
    return [(*_rows(n), _outputs(n, (2, 3)))]


@couples(*_named("MatMul1Bit", "MatMul1BitInt8"))
def weight_only_product(n: Node) -> Sequence[Axes]:
    """Shapes: x (..., K), W (P, N, bytes), scale (P, N, blocks), y (..., N)."""
    rows = _rows(n)
    outputs = n.same(_outputs(n), n.axes(2, 1)[1])
    n.share(*rows, outputs)
    return [(*rows, outputs)]


@couples(*_named("UnpackWeight"))
def unpacked(n: Node) -> Sequence[Axes]:
    """Shapes: W (P, N, bytes), scale (P, N, blocks), y (N, K)."""
    n.freeze_rest(0, 1, text="does not take channels from it")
    return [(n.same(n.axis(0, 1), n.axes(1, 1)[1]), n.why("keeps eight weights along it in a byte"))]


def _outputs(n: Node, follow: Sequence[int] = ()) -> Axis:
    """The rows of a packed weight, which is the second operand, and the vectors that have an entry for each."""
    rows = n.axes(1, 1)[1]
    for i in follow:
        n.same(rows, n.axis(i, 0))
    return rows


def _rows(n: Node) -> Axes:
    """All axes of the first operand but the last, which is summed over."""
    n.freeze_rest(0, *range(n.rank(0) - 1), text="multiplies it with weights of which eight share a byte")
    return n.axes(0)[:-1]
