"""Quantized tensors: scales and zero points follow the channels they belong to."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import Axes
from ..node import Node, couples


@couples("QuantizeLinear", "DequantizeLinear", unshared=(1, 2))
def quantize(n: Node) -> Sequence[Axes]:
    """Scale and zero point: one, one per index of ``axis``, or one per block of it."""
    if n.attr("block_size", 0):
        return n.frozen("scales blocks of it")
    if n.rank(0):
        n.follow(n.axis(0, n.attr("axis", 1) % n.rank(0)), 1, 2)
    return [n.axes(0)]


@couples("DynamicQuantizeLinear")
def dynamic_quantize(n: Node) -> Sequence[Axes]:
    """The scale comes from the extremes over everything, so what stays is quantized a little differently."""
    for axis in n.axes(0):
        n.inexact(axis, "takes its range over it", at_least=1)
    return [n.axes(0), (), ()]
