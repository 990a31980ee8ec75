"""Quantized tensors: scales and zero points follow the channels they belong to."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import Axes
from ..node import ALL, Node, couples
from .layout import joined
from .pooling import pooled

_SETTINGS = (1, 2, 3, 4)


@couples(
    "QuantizeLinear",
    "DequantizeLinear",
    "com.microsoft:QuantizeLinear",
    "com.microsoft:DequantizeLinear",
    unshared=(1, 2),
)
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


@couples("com.microsoft:QLinearAdd", "com.microsoft:QLinearMul", unshared=ALL)
def two(n: Node) -> Sequence[Axes]:
    """Operands: a, its scale and zero point, b, its scale and zero point, those of y."""
    return [n.meet_inputs(0, 3)]


@couples("com.microsoft:QLinearWhere", unshared=ALL)
def chosen(n: Node) -> Sequence[Axes]:
    """Operands: condition, x, its scale and zero point, y, its scale and zero point, those of the result."""
    return [n.meet_inputs(0, 1, 4)]


@couples("com.microsoft:QLinearLeakyRelu", "com.microsoft:QLinearSigmoid", unshared=_SETTINGS)
def one(n: Node) -> Sequence[Axes]:
    return [n.axes(0)]


@couples("com.microsoft:QLinearSoftmax", unshared=_SETTINGS)
def weighed(n: Node) -> Sequence[Axes]:
    n.freeze_axis(0, n.attr("axis", -1), "weighs its indices against each other")
    return [n.axes(0)]


@couples("com.microsoft:QLinearAveragePool", "com.microsoft:QLinearGlobalAveragePool", unshared=_SETTINGS)
def pool(n: Node) -> Sequence[Axes]:
    return pooled(n, -1 if n.attr("channels_last", 0) else 1)


@couples("com.microsoft:QLinearConcat", unshared=ALL)
def concat(n: Node) -> Sequence[Axes]:
    """Operands: scale and zero point of y, then tensors, each with its scale and zero point."""
    return [joined(n, range(2, len(n.inputs), 3))]


@couples(*(f"qonnx.custom_op.general:{op}" for op in ("Quant", "IntQuant", "BipolarQuant")), unshared=(1, 2, 3))
def trained(n: Node) -> Sequence[Axes]:
    """Operands: x, its scale, zero point and bits, which broadcast: quantized and back, as a network was trained."""
    return [n.meet_inputs(*range(len(n.inputs)))]
