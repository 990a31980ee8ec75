"""Convolutions: filters make the output channels, groups split both sides."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import Axes, Axis
from ..node import Node, couples, rewrites
from ..surgery import Edit


def _convolve(n: Node, x: int, w: int, neutral: int = -1) -> Axes:
    """Shapes: x (N, C, ...), W (M, C/groups, k...), y (N, M, ...).

    One index of every group goes together on each side; a group goes on both sides at once. With one input channel a
    group this is the depthwise convolution, with any channel multiplier.
    """
    groups = n.attr("group", 1)
    n.spatial(x)
    outputs, inputs = n.axes(w, 0, 1)[:2]
    channels = n.axis(x, 1)
    if groups == 1:
        n.same(channels, inputs)
    else:
        feeding, inner = n.split(channels, (groups, n.dims(w)[1]))
        n.same(inner, inputs)
        filtered, _ = n.split(outputs, (groups, n.dims(w)[0] // groups))
        n.same(feeding, filtered)
    n.contract(w, 1, neutral)
    n.share(n.axis(x, 0), outputs, inputs)
    return _image(n, n.axis(x, 0), outputs)


def _image(n: Node, samples: Axis, channels: Axis) -> Axes:
    why = n.why("slides a window over it")
    return (samples, channels, *(why for _ in n.out_dims()[2:]))


@couples("Conv", unshared=(2,))
def conv(n: Node) -> Sequence[Axes]:
    out = _convolve(n, 0, 1)
    n.follow(out[1], 2)
    return [out]


@couples("ConvInteger", unshared=(2, 3))
def conv_integer(n: Node) -> Sequence[Axes]:
    """Zero points: one for x, one or one per output channel for W."""
    out = _convolve(n, 0, 1, neutral=3)
    n.follow(out[1], 3)
    return [out]


@couples("QLinearConv", "com.microsoft:QLinearConv", unshared=(1, 2, 4, 5, 6, 7, 8))
def qlinear_conv(n: Node) -> Sequence[Axes]:
    """Operands: x, its scale and zero point, W, its scale and zero point (per output channel), y's, bias."""
    if n.attr("channels_last", 0):
        return n.frozen("has its channels last")
    out = _convolve(n, 0, 3, neutral=5)
    n.follow(out[1], 4, 5, 8)
    return [out]


@rewrites("Conv", "ConvInteger", "QLinearConv", "com.microsoft:QLinearConv")
def conv_groups(e: Edit) -> None:
    """What is left of the input channels over what is left of them in a group."""
    if e.attr("group", 1) > 1:
        e.set_attr("group", e.kept(0, 1) // e.kept(3 if e.node.op == "QLinearConv" else 1, 1))


@couples("ConvTranspose", unshared=(2,))
def conv_transpose(n: Node) -> Sequence[Axes]:
    """Shapes: x (N, C, ...), W (C, M/groups, k...), y (N, M, ...)."""
    groups = n.attr("group", 1)
    n.spatial(0)
    inputs, outputs = n.axes(1, 0, 1)[:2]
    channels = n.same(n.axis(0, 1), inputs)
    if groups > 1:
        feeding, _ = n.split(channels, (groups, n.dims(1)[0] // groups))
        outputs = n.join((feeding, outputs), (groups, n.dims(1)[1]))
        n.note("groups", feeding)
    n.follow(outputs, 2)
    n.contract(1, 0)
    n.share(n.axis(0, 0), channels, n.axis(1, 1))
    return [_image(n, n.axis(0, 0), outputs)]


@rewrites("ConvTranspose")
def conv_transpose_groups(e: Edit) -> None:
    if e.attr("group", 1) > 1:
        e.set_attr("group", e.noted("groups", e.attr("group")))


@couples("DeformConv", unshared=(3,))
def deform_conv(n: Node) -> Sequence[Axes]:
    """Operands: x, W, offset, bias, mask. Offsets are positions, so they stay whole; so do groups."""
    for i in (2, 4):
        n.freeze_rest(i, text="reads positions from it")
    if n.attr("group", 1) > 1 or n.attr("offset_group", 1) > 1:
        return n.frozen("divides it into groups that must stay equal")
    out = _convolve(n, 0, 1)
    n.follow(out[1], 3)
    return [out]
