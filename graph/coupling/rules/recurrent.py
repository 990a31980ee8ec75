"""Recurrent layers: hidden units go from every gate and every direction at once."""

from __future__ import annotations

from collections.abc import Sequence

from ...traits import operator
from ..labels import LENGTH_ONE, Axes, Axis
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("LSTM", "GRU", "RNN", unshared=(3, 7))
def recurrent(n: Node) -> Sequence[Axes]:
    """Shapes: X (time, batch, I), W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H), lengths, h0 and c0 (D, batch, H), P (D, 3*H).

    Outputs: Y (time, D, batch, H), last h and c (D, batch, H); with layout 1, batch comes first in all of X, Y, h, c.
    """
    return _stepped(n, 1, (-1, -1))


@couples("com.microsoft:DynamicQuantizeLSTM", unshared=(3, 7, 8, 9, 10, 11))
def quantized_lstm(n: Node) -> Sequence[Axes]:
    """Weights are integers of shapes (D, I, 4*H) and (D, H, 4*H); a scale and a zero point each, or one for each column.

    Inputs and states are quantized by their range, which is another one without some of them.
    """
    zeros = n.value(9), n.value(11)
    if any(zero is None or (zero != zero.flat[0]).any() for zero in zeros):
        return n.frozen("has weights with zero points of their own")
    out = _stepped(n, 2, (9, 11))
    for axis in (n.axis(0, 2), n.trace.notes[n.index, "hidden"]):
        n.inexact(axis, "takes its range over it", at_least=1)
    return out


def _stepped(n: Node, at: int, neutral: tuple[int, int]) -> list[Axes]:
    """Gates and hidden units stand on axis ``at`` of weights, which have the zero points ``neutral``."""
    gates, across = operator(n.proto).gates, 3 - at
    width, hidden = (n.dims(i)[across] for i in (1, 2))
    units = n.contract(2, across, neutral[1])
    for i, blocks in ((1, gates), (2, gates), (3, 2 * gates), (7, 3), *((i, gates) for i in range(8, len(n.inputs)))):
        if n.has(i) and n.rank(i) > 1:
            units = n.same(units, _units(n, i, at if i < 3 else 1, blocks, hidden))
            n.freeze_axis(i, 0, "has as many directions")
    inputs = n.same(n.axis(0, 2), n.axis(1, across))
    n.contract(1, across, neutral[0])
    n.freeze_rest(0, 2, text="steps through it")
    for i in (5, 6):
        if n.has(i):
            units = n.same(units, n.axis(i, 2))
            n.freeze_rest(i, 2, text="steps through it")
    n.freeze_rest(4, text="holds lengths")
    n.note("hidden", units)
    n.share(units, inputs, of=width / (width + hidden))
    n.share(units, units, of=hidden / (width + hidden))
    return [_outputs(n, j, units) for j in range(len(n.proto.output))]


def _units(n: Node, i: int, at: int, blocks: int, hidden: int) -> Axis:
    gate, units = n.split(n.axis(i, at), (blocks, hidden))
    if blocks > 1:
        n.freeze(gate, n.why("needs every gate"))
    return units


def _outputs(n: Node, j: int, units: Axis) -> Axes:
    if not n.proto.output[j]:
        return ()
    rest = n.unlabelled(j, n.why("steps through it"))
    return (*rest[:-1], units if n.out_dims(j)[-1] > 1 else LENGTH_ONE)


@rewrites("LSTM", "GRU", "RNN", "com.microsoft:DynamicQuantizeLSTM")
def hidden_size(e: Edit) -> None:
    e.set_attr("hidden_size", e.noted("hidden", e.attr("hidden_size", min(e.node.dims(2)[1:]))))
