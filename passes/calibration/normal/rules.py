"""How operators carry the mean and variance of channels on, one small function each; any other operator ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import scipy

from ....graph.coupling.rules.elementwise import BROADCAST, UNARY
from ....graph.nodes import as_ints, saturation
from ....graph.traits import Trait, has, operators
from .moments import (
    GRID,
    Floats,
    Floats32,
    Normal,
    Step,
    Unknown,
    carries,
    clipped,
    gaussian,
    integrate,
)

_LARGEST = 1 << 16
"""Channels above which functions are not evaluated on the grid."""
FUNCTIONS = sorted(op for op in (UNARY | BROADCAST) - operators(Trait.BITWISE) - {"Equal"} if ":" not in op)
"""Functions of numbers; ``Equal`` asks for a single value, which no normal variable takes."""


@carries("BatchNormalization")
def batch_normalization(s: Step) -> Normal:
    """Normal with mean ``shift`` and deviation ``|scale|``, smaller where epsilon outweighs the variance.

    A channel that was always zero in training has no variance to scale up.
    """
    if s.attr("training_mode", 0):
        raise Unknown
    scale, shift, variance = (s.constant(i) for i in (1, 2, 4))
    shape = [1, -1, *(1 for _ in s.dims_in()[2:])]
    share = variance / (variance + s.attr("epsilon", 1e-5))
    correlation = s.operands[0].correlation if s.operands[0] is not None else None
    if correlation is not None:
        sign = np.sign(scale).astype(np.float32)
        correlation = sign[:, None] * correlation * sign
    return gaussian(s.name, shift.reshape(shape), (scale**2 * share).reshape(shape), correlation=correlation)


@carries("InstanceNormalization")
def instance_normalization(s: Step) -> Normal:
    """Every channel of every sample has mean ``shift`` and deviation ``|scale|``."""
    shape = [1, -1, *(1 for _ in s.dims_in()[2:])]
    return gaussian(s.name, s.constant(2).reshape(shape), np.square(s.constant(1)).reshape(shape))


@carries(*FUNCTIONS, "Dropout")
def elementwise(s: Step) -> Normal:
    """A function of one normal tensor, by its values; sums and products of independent ones, by their moments."""
    known = [x for x in s.operands if x is not None]
    if not known or any(s.has(i) and x is None and s.constants[i] is None for i, x in enumerate(s.operands)):
        raise Unknown
    if s.node.op_type == "Dropout":
        known = known[:1]
    if len({x.base for x in known}) > 1:
        return _independent(s)
    shape = np.broadcast_shapes(*(x.mean.shape for x in known), *_constant_shapes(s))
    if math.prod(shape) > _LARGEST:
        raise Unknown

    def values() -> Floats:
        operands = [_on_grid(s, i, len(shape)) for i in range(len(s.operands))]
        return np.broadcast_to(_computed(s, operands), (*shape, len(GRID)))

    mean, variance = _closed_form(s) or integrate(values())
    links, first = max(x.links for x in known), known[0]
    if math.prod(shape) != first.mean.size:
        return Normal(mean, variance, first.base, None, values, None, links)
    return Normal(mean, variance, first.base, first.origin, values, first.correlation, links)


def _constant_shapes(s: Step) -> list[tuple[int, ...]]:
    return [c.shape for x, c in zip(s.operands, s.constants, strict=True) if x is None and c is not None and c.ndim]


def _closed_form(s: Step) -> tuple[Floats, Floats] | None:
    """Relu and Clip of a tensor that is normal itself."""
    x = s.operands[0]
    if x is None or x.origin != s.node.input[0] or not has(s.node, Trait.RECTIFIES):
        return None
    weights = {name: c for name, c in zip(s.node.input, s.constants, strict=True) if c is not None}
    limits = saturation(s.node, weights)
    return clipped(x.mean, x.variance, *limits) if limits is not None else None


def _on_grid(s: Step, i: int, rank: int) -> Floats | None:
    """An operand with the grid as a last axis; scalars stay scalars, as bounds must be."""
    if not s.has(i):
        return None
    x, constant = s.operands[i], s.constants[i]
    if x is not None:
        values = x.values()
        return values.reshape((1,) * (rank + 1 - values.ndim) + values.shape)
    value = np.asarray(constant)
    value = value.astype(np.float64) if value.dtype.kind == "f" else value
    return value if not value.ndim else value.reshape((1,) * (rank - value.ndim) + value.shape + (1,))


def _computed(s: Step, operands: Sequence[Floats | None]) -> Floats:
    """What the node makes of arrays, by onnx's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    feeds = {name: value for name, value in zip(s.node.input, operands, strict=True) if value is not None}
    values = [onnx.helper.make_tensor_value_info(name, 0, None) for name in (*feeds, s.name)]
    graph = onnx.helper.make_graph([s.node], "node", values[:-1], values[-1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", s.opset)])
    try:
        (found,) = ReferenceEvaluator(model).run([s.name], feeds)
    except Exception as error:
        raise Unknown from error
    return np.asarray(found, dtype=np.float64)


def _independent(s: Step) -> Normal:
    """Operands that vary apart from each other. Constants among them have no variance."""
    combine = _INDEPENDENT.get(s.node.op_type)
    if combine is None:
        raise Unknown
    rank = len(s.dims_out())
    pairs = [_pair(s, i, rank) for i in range(len(s.operands))]
    mean, variance = pairs[0]
    for other in pairs[1:]:
        mean, variance = combine(mean, variance, *other)
    links = max(x.links for x in s.operands if x is not None)
    return gaussian(s.name, mean, variance, links, _of_sum(s, mean.size) if s.node.op_type != "Mul" else None)


def _of_sum(s: Step, size: int) -> Floats32 | None:
    """Correlation of a sum of independent tensors: covariances add up."""
    known = [x for x in s.operands if x is not None]
    if not s.correlated or any(x.mean.size != size for x in known) or all(x.correlation is None for x in known):
        return None
    return normalized(np.asarray(sum(x.covariance() for x in known)))


def normalized(covariance: Floats) -> Floats32:
    """Correlations; what does not vary has none. Of what hardly does, covariances may be rounding alone: none is above 1."""
    covariance = np.nan_to_num(covariance)
    deviation = np.sqrt(np.diagonal(covariance))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    found = np.clip(scale[:, None] * covariance * scale, -1, 1).astype(np.float32)
    np.fill_diagonal(found, 1)
    return found


def _pair(s: Step, i: int, rank: int) -> tuple[Floats, Floats]:
    x = s.operands[i]
    mean = x.mean if x is not None else s.constant(i)
    mean = mean.reshape((1,) * (rank - mean.ndim) + mean.shape)
    return mean, np.zeros_like(mean) if x is None else x.variance.reshape(mean.shape)


_INDEPENDENT: dict[str, Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]] = {
    "Add": lambda m, v, n, w: (m + n, v + w),
    "Sum": lambda m, v, n, w: (m + n, v + w),
    "Sub": lambda m, v, n, w: (m - n, v + w),
    "Mul": lambda m, v, n, w: (m * n, v * w + v * n**2 + w * m**2),
}


@carries("Conv")
def conv(s: Step) -> Normal:
    """Mean exact up to borders, variance as if inputs were independent."""
    groups, weight = s.attr("group", 1), s.constant(1)
    mean, variance = (v.reshape(groups, 1, -1) for v in _inputs(s, 1, weight.shape[1] * groups))
    taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    out = (taps.sum(axis=-1) * mean).sum(axis=-1).reshape(-1)
    if s.has(2):
        out = out + s.constant(2)
    spread = (np.square(taps).sum(axis=-1) * variance).sum(axis=-1)
    shape = [1, -1, *(1 for _ in weight.shape[2:])]
    return _made(s, out.reshape(shape), spread.reshape(shape), weight, groups)


@carries("Gemm")
def gemm(s: Step) -> Normal:
    """Like a convolution of one position."""
    if s.attr("transA", 0):
        raise Unknown
    weight = s.attr("alpha", 1.0) * (s.constant(1) if s.attr("transB", 0) else s.constant(1).T)
    mean, variance = _inputs(s, -1, weight.shape[1])
    out = weight @ mean
    if s.has(2):
        out = out + s.attr("beta", 1.0) * s.constant(2).reshape(-1)
    return _made(s, out.reshape(1, -1), (np.square(weight) @ variance).reshape(1, -1), weight)


@carries("MatMul")
def matmul(s: Step) -> Normal:
    """A product with a constant matrix on the right."""
    weight = s.constant(1).T
    if weight.ndim != 2:
        raise Unknown
    mean, variance = _inputs(s, -1, weight.shape[1])
    shape = [*(1 for _ in s.dims_out()[1:]), -1]
    return _made(s, (weight @ mean).reshape(shape), (np.square(weight) @ variance).reshape(shape), weight)


def _inputs(s: Step, axis: int, channels: int) -> tuple[Floats, Floats]:
    """Mean and variance of a layer's inputs; no numbers where nothing is known, but filters still tell correlations."""
    if s.operands[0] is None:
        return np.full(channels, np.nan), np.full(channels, np.nan)
    mean, variance = s.operands[0].along(axis)
    return np.broadcast_to(mean, (channels,)), np.broadcast_to(variance, (channels,))


def _made(s: Step, mean: Floats, variance: Floats, weight: Floats, groups: int = 1) -> Normal:
    """What a layer makes: ``weight`` has a filter in each row."""
    links = s.operands[0].links + 1 if s.operands[0] is not None else 1
    return gaussian(s.name, mean, variance, links, _alike_filters(s, weight, groups) if s.correlated else None)


def _alike_filters(s: Step, weight: Floats, groups: int) -> Floats32:
    """Cosines of filters. Filters on channels of their own are as much alike as those channels are besides."""
    rows = weight.reshape(len(weight), -1)
    found = normalized(rows @ rows.T)
    if groups == 1:
        return found
    group = np.arange(len(weight)) // (len(weight) // groups)
    x = s.operands[0]
    if weight.shape[1] == 1 and x is not None and x.mean.size == groups:
        return found * normalized(x.covariance())[np.ix_(group, group)]
    return np.asarray(np.where(group[:, None] == group, found, np.float32(0)))


@carries("AveragePool", "GlobalAveragePool", "Resize")
def alike(s: Step) -> Normal:
    """The mean stays, and so does the variance: neighbours are much alike. Really it shrinks, so it is a bound."""
    x, dims = s.x, s.dims_out()
    if any(old != new and x.mean.shape[a] != 1 for a, (old, new) in enumerate(zip(s.dims_in(), dims, strict=True))):
        raise Unknown
    return replace(x, base=s.name)


@carries("MaxPool")
def max_pool(s: Step) -> Normal:
    """Neighbours are alike, so a window counts as its side, not its area: the greatest of so many independent values.

    Only for functions that never fall, of which the greatest value is that of the greatest variable.
    """
    x, window = s.x, s.attr("kernel_shape")
    if (np.diff(x.values(), axis=-1) < 0).any():
        raise Unknown
    greatest = scipy.special.ndtri(scipy.special.ndtr(GRID) ** math.prod(window) ** (-1 / len(window)))

    def values() -> Floats:
        return _read(x.values(), greatest)

    return Normal(*integrate(values()), s.name, x.origin, values, x.correlation, x.links)


def _read(values: Floats, z: Floats) -> Floats:
    """Values at other points than those of the grid, by straight lines. Shapes: (..., grid), (points,)."""
    place = np.interp(z, GRID, np.arange(len(GRID)))
    lower = np.minimum(place.astype(np.int64), len(GRID) - 2)
    share = place - lower
    return np.asarray(values[..., lower] * (1 - share) + values[..., lower + 1] * share)


@carries("ReduceMean")
def reduce_mean(s: Step) -> Normal:
    """The mean of means; the mean of variances is a bound, reached if all indices are alike."""
    x = s.x
    axes = s.setting(1, "axes")
    if axes is None or not np.size(axes):
        if s.attr("noop_with_empty_axes", 0):
            return x
        axes = range(x.mean.ndim)
    over = tuple(a % x.mean.ndim for a in as_ints(axes))
    keep = bool(s.attr("keepdims", 1))
    whole = all(x.mean.shape[a] == 1 for a in over)
    mean, variance = x.mean.mean(axis=over, keepdims=keep), x.variance.mean(axis=over, keepdims=keep)
    if whole:
        return replace(x, mean=mean, variance=variance, base=s.name, values=lambda: x.values().reshape(*mean.shape, -1))
    return gaussian(s.name, mean, variance, x.links)
