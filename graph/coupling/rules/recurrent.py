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
    gates, hidden = operator(n.op).gates, n.dims(2)[2]
    units = n.contract(2, 2)
    for i, blocks in ((1, gates), (2, gates), (3, 2 * gates), (7, 3)):
        if n.has(i):
            units = n.same(units, _units(n, i, blocks, hidden))
            n.freeze_axis(i, 0, "has as many directions")
    inputs = n.same(n.axis(0, 2), n.axis(1, 2))
    n.contract(1, 2)
    n.freeze_rest(0, 2, text="steps through it")
    for i in (5, 6):
        if n.has(i):
            units = n.same(units, n.axis(i, 2))
            n.freeze_rest(i, 2, text="steps through it")
    n.freeze_rest(4, text="holds lengths")
    n.note("hidden", units)
    width = n.dims(1)[2]
    n.share(units, inputs, of=width / (width + hidden))
    n.share(units, units, of=hidden / (width + hidden))
    return [_outputs(n, j, units) for j in range(len(n.proto.output))]


@couples("com.microsoft:DynamicQuantizeLSTM")
def quantized_lstm(n: Node) -> Sequence[Axes]:
    """Weights are integers of shapes (D, I, 4*H) and (D, H, 4*H); hidden units are quantized together, so they stay."""
    value = n.value(9)
    if value is None or (value != value.flat[0]).any():
        return n.frozen("has weights with zero points of their own")
    inputs = n.same(n.axis(0, 2), n.axes(1, 1)[1])
    width, hidden = n.dims(1)[1], n.dims(2)[1]
    n.share(inputs, of=width / (width + hidden))
    n.share(of=hidden / (width + hidden))
    n.contract(1, 1, neutral=9)
    n.inexact(n.axis(0, 2), "takes its range over it", at_least=1)
    n.freeze_rest(0, 2, text="steps through it")
    why = n.why("steps through it in integers")
    for i in range(2, len(n.inputs)):
        n.freeze_rest(i, text=why.text)
    return [n.unlabelled(j, why) for j in range(len(n.proto.output))]


def _units(n: Node, i: int, blocks: int, hidden: int) -> Axis:
    gate, units = n.split(n.axis(i, 1), (blocks, hidden))
    if blocks > 1:
        n.freeze(gate, n.why("needs every gate"))
    return units


def _outputs(n: Node, j: int, units: Axis) -> Axes:
    if not n.proto.output[j]:
        return ()
    rest = n.unlabelled(j, n.why("steps through it"))
    return (*rest[:-1], units if n.out_dims(j)[-1] > 1 else LENGTH_ONE)


@rewrites("LSTM", "GRU", "RNN")
def hidden_size(e: Edit) -> None:
    e.set_attr("hidden_size", e.noted("hidden", e.attr("hidden_size", e.node.dims(2)[2])))
