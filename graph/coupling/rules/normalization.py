"""Normalizations. Over a removable axis they are inexact: what stays is normalized without what went."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import LENGTH_ONE, Axes
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("BatchNormalization", unshared=(1, 2, 3, 4))
def batch_normalization(n: Node) -> Sequence[Axes]:
    """One scale, bias, mean and variance a channel; statistics are stored, so this is exact."""
    if n.attr("training_mode", 0):
        return n.frozen("updates its statistics")
    channels = n.axis(0, 1) if n.rank(0) > 1 else n.axis(0, 0)
    for i in range(1, 5):
        channels = n.same(channels, n.axis(i, 0))
    return [n.axes(0), *((channels,) for _ in n.proto.output[1:])]


@couples("InstanceNormalization", unshared=(1, 2))
def instance_normalization(n: Node) -> Sequence[Axes]:
    """Every channel of every sample on its own."""
    for a in range(2, n.rank(0)):
        n.inexact(n.axis(0, a), "normalizes over it")
    n.same(n.same(n.axis(0, 1), n.axis(1, 0)), n.axis(2, 0))
    return [n.axes(0)]


@couples("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", unshared=(1, 2))
def layer_normalization(n: Node) -> Sequence[Axes]:
    """Scale and shift broadcast. Outputs: y, then mean and inverse deviation with the normalized axes at length 1.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv:1910.07467, for that without a mean.
    """
    x, dims, first = n.axes(0), n.dims(0), n.attr("axis", -1) % n.rank(0)
    for axis in x[first:]:
        n.inexact(axis, "normalizes over it")
    for i in (1, 2):
        if n.has(i):
            n.meet([(x, dims), (n.axes(i), n.dims(i))], dims)
    statistics = (*x[:first], *n.unlabelled(0, n.why("normalizes over it"))[first:])
    return [x, *(statistics for _ in n.proto.output[1:])]


@couples("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization", unshared=(2, 3, 4))
def skip_layer_normalization(n: Node) -> Sequence[Axes]:
    """Operands, which are all added or multiplied along: x, skip, scale, shift, bias.

    Outputs: y, mean, inverse deviation, the sum before.
    """
    x = n.meet_inputs(*range(len(n.inputs)))
    n.inexact(x[-1], "normalizes over it")
    moment = (*x[:-1], LENGTH_ONE)
    return [x, moment, moment, x][: len(n.proto.output)]


@couples("com.microsoft:QEmbedLayerNormalization", unshared=(5, 6))
def embedding_in_integers(n: Node) -> Sequence[Axes]:
    """Operands: words (B, S), segments, tables of words, positions and segments, scale, shift, mask, how all are scaled."""
    for i in (0, 1, 7):
        n.freeze_rest(i, text="holds indices or a mask")
    channels = n.axis(2, 1)
    for i in (3, 4):
        channels = n.same(channels, n.axis(i, 1)) if n.has(i) else channels
    for i in (2, 3, 4):
        n.freeze_rest(i, 1, text="reads it at computed indices")
    n.follow(channels, 5, 6)
    n.inexact(channels, "normalizes over it")
    rest = [n.unlabelled(j, n.why("reads it at computed indices")) for j in range(len(n.outputs))]
    return [(*rest[0][:2], channels), *rest[1:]]


@couples("GroupNormalization", unshared=(1, 2))
def group_normalization(n: Node) -> Sequence[Axes]:
    """Channels as (group, within): whole groups go exactly, channels within inexactly.

    Scale and bias: one a group (opset 18) or one a channel (opset 21).
    Source: Wu and He, "Group Normalization", 2018, arXiv:1803.08494.
    """
    groups = n.attr("num_groups")
    channels, width = n.axis(0, 1), n.dims(0)[1]
    outer, within = n.split(channels, (groups, width // groups))
    n.inexact(within, "normalizes over it", at_least=1)
    for a in range(2, n.rank(0)):
        n.inexact(n.axis(0, a), "normalizes over it", at_least=1)
    for i in (1, 2):
        n.same(channels if n.dims(i)[0] == width else outer, n.axis(i, 0))
    n.note("groups", outer)
    return [n.axes(0)]


@rewrites("GroupNormalization")
def group_count(e: Edit) -> None:
    e.set_attr("num_groups", e.noted("groups", e.attr("num_groups")))


@couples("LpNormalization")
def lp_normalization(n: Node) -> Sequence[Axes]:
    """A sum of powers: an index that went contributes nothing, so this is exact."""
    n.contract(0, n.attr("axis", -1))
    return [n.axes(0)]


@couples("MeanVarianceNormalization")
def mean_variance_normalization(n: Node) -> Sequence[Axes]:
    for a in n.attr("axes", [0, 2, 3]):
        n.inexact(n.axis(0, a), "normalizes over it")
    return [n.axes(0)]


@couples("LRN")
def lrn(n: Node) -> Sequence[Axes]:
    """Each channel looks at its neighbours, which change when one between them goes."""
    n.freeze_axis(0, 1, "looks at neighbouring channels")
    return [n.axes(0)]


@couples("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: Node) -> Sequence[Axes]:
    """Before operator set 13 all axes from ``axis`` on count as one."""
    text = "weighs its indices against each other"
    if n.trace.opset >= 13:
        n.freeze_axis(0, n.attr("axis", -1), text)
    else:
        n.freeze_rest(0, *range(n.attr("axis", 1) % n.rank(0)), text=text)
    return [n.axes(0)]
