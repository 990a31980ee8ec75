"""How operators carry the mean and variance of channels on, one small function each; any other operator ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from scipy.special import ndtr, ndtri

from ...graph.coupling.rules.elementwise import BROADCAST, UNARY
from ...graph.evaluate import slices
from ...graph.nodes import as_ints
from .normal import GRID, Floats, Normal, Step, Unknown, carries, clipped, gaussian, integrate

_LARGEST = 1 << 16
"""Channels above which functions are not evaluated on the grid."""
_LARGEST_TABLE = 1 << 24
"""Elements above which a reshape is not followed."""


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
    return gaussian(s.name, shift.reshape(shape), (scale**2 * share).reshape(shape))


@carries("InstanceNormalization")
def instance_normalization(s: Step) -> Normal:
    """Every channel of every sample has mean ``shift`` and deviation ``|scale|``."""
    shape = [1, -1, *(1 for _ in s.dims_in()[2:])]
    return gaussian(s.name, s.constant(2).reshape(shape), np.square(s.constant(1)).reshape(shape))


@carries(*UNARY, *BROADCAST, "Clip", "Dropout")
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
    origin = known[0].origin if math.prod(shape) == known[0].mean.size else None
    return Normal(mean, variance, known[0].base, origin, values, max(x.links for x in known))


def _constant_shapes(s: Step) -> list[tuple[int, ...]]:
    return [c.shape for x, c in zip(s.operands, s.constants, strict=True) if x is None and c is not None and c.ndim]


def _closed_form(s: Step) -> tuple[Floats, Floats] | None:
    """Relu and Clip of a tensor that is normal itself."""
    x = s.operands[0]
    if x is None or x.origin != s.node.input[0] or s.node.op_type not in ("Relu", "Clip"):
        return None
    low, high = (0.0, None) if s.node.op_type == "Relu" else (s.setting(1, "min"), s.setting(2, "max"))
    return clipped(x.mean, x.variance, -np.inf if low is None else float(low), np.inf if high is None else float(high))


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
        found = ReferenceEvaluator(model).run([s.name], feeds)
    except Exception as error:
        raise Unknown from error
    return np.asarray(found[0], dtype=np.float64)


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
    return gaussian(s.name, mean, variance, max(x.links for x in s.operands if x is not None))


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
    mean, variance = s.x.along(1)
    channels = weight.shape[1] * groups
    mean, variance = (np.broadcast_to(v, (channels,)).reshape(groups, 1, -1) for v in (mean, variance))
    taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    out = (taps.sum(axis=-1) * mean).sum(axis=-1).reshape(-1)
    if s.has(2):
        out = out + s.constant(2)
    spread = (np.square(taps).sum(axis=-1) * variance).sum(axis=-1)
    shape = [1, -1, *(1 for _ in weight.shape[2:])]
    return gaussian(s.name, out.reshape(shape), spread.reshape(shape), s.x.links + 1)


@carries("Gemm")
def gemm(s: Step) -> Normal:
    """Like a convolution of one position."""
    if s.attr("transA", 0):
        raise Unknown
    weight = s.attr("alpha", 1.0) * (s.constant(1).T if s.attr("transB", 0) else s.constant(1))
    mean, variance = _product(s, weight)
    if s.has(2):
        mean = mean + s.attr("beta", 1.0) * s.constant(2)
    return gaussian(s.name, mean.reshape(1, -1), variance.reshape(1, -1), s.x.links + 1)


@carries("MatMul")
def matmul(s: Step) -> Normal:
    """A product with a constant matrix on the right."""
    weight = s.constant(1)
    if weight.ndim != 2:
        raise Unknown
    mean, variance = _product(s, weight)
    shape = [*(1 for _ in s.dims_out()[1:]), -1]
    return gaussian(s.name, mean.reshape(shape), variance.reshape(shape), s.x.links + 1)


def _product(s: Step, weight: Floats) -> tuple[Floats, Floats]:
    mean, variance = (np.broadcast_to(v, weight.shape[:1]) for v in s.x.along(-1))
    return mean @ weight, variance @ np.square(weight)


@carries("AveragePool", "GlobalAveragePool", "Resize", "Upsample")
def alike(s: Step) -> Normal:
    """The mean stays, and so does the variance: neighbours are much alike. Really it shrinks, so it is a bound."""
    x, dims = s.x, s.dims_out()
    if any(old != new and x.mean.shape[a] != 1 for a, (old, new) in enumerate(zip(s.dims_in(), dims, strict=True))):
        raise Unknown
    return Normal(x.mean, x.variance, s.name, x.origin, x.values, x.links)


@carries("MaxPool")
def max_pool(s: Step) -> Normal:
    """Neighbours are alike, so a window counts as its side, not its area: the greatest of so many independent values.

    Only for functions that never fall, of which the greatest value is that of the greatest variable.
    """
    x, window = s.x, s.attr("kernel_shape")
    if (np.diff(x.values(), axis=-1) < 0).any():
        raise Unknown
    greatest = ndtri(ndtr(GRID) ** math.prod(window) ** (-1 / len(window)))

    def values() -> Floats:
        return _read(x.values(), greatest)

    return Normal(*integrate(values()), s.name, x.origin, values, x.links)


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
        return Normal(mean, variance, s.name, x.origin, lambda: x.values().reshape(*mean.shape, -1), x.links)
    return gaussian(s.name, mean, variance, x.links)


def _moved(s: Step, j: int, move: Callable[[Any], Any], x: Normal | None = None) -> Normal:
    """Channels in another order or shape. ``move`` acts on arrays of the operand's shape or with further axes."""
    x = s.x if x is None else x
    places = move(np.arange(x.mean.size).reshape(x.mean.shape))
    same = places.size == x.mean.size and bool((places.reshape(-1) == np.arange(x.mean.size)).all())
    name = s.node.output[j]
    base, origin = (x.base, x.origin) if same else (name, None)
    return Normal(move(x.mean), move(x.variance), base, origin, lambda: move(x.values()), x.links)


@carries("Transpose")
def transpose(s: Step) -> Normal:
    rank = s.x.mean.ndim
    order = s.attr("perm") or list(reversed(range(rank)))
    return _moved(s, 0, lambda a: np.transpose(a, [*order, *range(rank, a.ndim)]))


@carries("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(s: Step) -> Normal:
    """Where each index went is read off a table of places, cut to length 1 along axes on which nothing differs."""
    x, old, new = s.x, list(s.dims_in()), list(s.dims_out())
    for left, right in _runs(old, new):
        if all(x.mean.shape[a] == 1 for a in left):
            old[left.start : left.stop], new[right.start : right.stop] = [1] * len(left), [1] * len(right)
    if math.prod(old) > _LARGEST_TABLE:
        raise Unknown
    table = np.broadcast_to(np.arange(x.mean.size).reshape(x.mean.shape), old).reshape(new)
    for axis in range(table.ndim):
        first = table.take([0], axis=axis)
        table = first if (table == first).all() else table
    return _moved(s, 0, lambda a: a.reshape(x.mean.size, *a.shape[x.mean.ndim :])[table])


def _runs(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Match the axes of two shapes of equal size into the shortest runs of equal product."""
    if 0 in old or 0 in new:
        raise Unknown
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (left := math.prod(old[a:i])) != (right := math.prod(new[b:j])):
            i, j = (i + 1, j) if left < right else (i, j + 1)
        yield range(a, i), range(b, j)


@carries("Split")
def split(s: Step) -> list[Normal]:
    axis = s.attr("axis", 0) % s.x.mean.ndim
    ends = np.cumsum([s.dims_out(j)[axis] for j in range(len(s.node.output))]).tolist()
    starts = [0, *ends[:-1]]
    return [_cut(s, j, axis, slice(a, b)) for j, (a, b) in enumerate(zip(starts, ends, strict=True))]


def _cut(s: Step, j: int, axis: int, cut: slice) -> Normal:
    if s.x.mean.shape[axis] != s.dims_in()[axis]:
        return _moved(s, j, lambda a: a)
    return _moved(s, j, lambda a: a[(slice(None),) * axis + (cut,)])


@carries("Slice")
def slice_(s: Step) -> Normal:
    x, dims = s.x, s.dims_in()
    if any(s.has(i) and s.constants[i] is None for i in range(1, len(s.node.input))):
        raise Unknown
    cuts = slices(s.node, list(s.constants), len(dims))
    cuts = tuple(c if n == d else slice(None) for c, n, d in zip(cuts, x.mean.shape, dims, strict=True))
    return _moved(s, 0, lambda a: a[cuts])


@carries("Gather")
def gather(s: Step) -> Normal:
    """Constant indices."""
    axis = s.attr("axis", 0) % s.x.mean.ndim
    indices = s.constant(1).astype(np.int64) % s.dims_in()[axis]
    if s.x.mean.shape[axis] == 1:
        indices = np.zeros([1] * indices.ndim, dtype=np.int64)
    return _moved(s, 0, lambda a: np.take(a, indices, axis=axis))


@carries("Concat")
def concat(s: Step) -> Normal:
    known = [x for x in s.operands if x is not None]
    if len(known) != len(s.operands):
        raise Unknown
    axis = s.attr("axis") % known[0].mean.ndim
    lengths = [s.dims_in(i)[axis] for i in range(len(known))]

    def join(arrays: Sequence[Floats]) -> Floats:
        rank = known[0].mean.ndim
        shape = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays))
        assert len(shape) >= rank
        return np.concatenate(
            [np.broadcast_to(a, (*shape[:axis], n, *shape[axis + 1 :])) for a, n in zip(arrays, lengths, strict=True)],
            axis=axis,
        )

    mean, variance = join([x.mean for x in known]), join([x.variance for x in known])
    links = max(x.links for x in known)
    return Normal(mean, variance, s.name, None, lambda: join([x.values() for x in known]), links)


@carries("Pad")
def pad(s: Step) -> Normal:
    """New channels hold the fill value. Where positions are padded, the border counts for nothing."""
    x, dims = s.x, s.dims_in()
    amounts = s.setting(1, "pads")
    if amounts is None:
        raise Unknown
    fill = s.setting(2, "value")
    axes = as_ints(s.constants[3]) if s.has(3) and s.constants[3] is not None else list(range(len(dims)))
    flat = as_ints(amounts)
    widths = [(0, 0)] * len(dims)
    for k, a in enumerate(axes):
        if x.mean.shape[a] == dims[a]:
            widths[a % len(dims)] = (flat[k], flat[k + len(axes)])
    if any(n < 0 for width in widths for n in width) or (
        any(map(any, widths)) and s.attr("mode", "constant") != "constant"
    ):
        raise Unknown
    value = 0.0 if fill is None else float(np.asarray(fill).reshape(()))

    def padded(a: Floats, value: float) -> Floats:
        return np.pad(a, widths + [(0, 0)] * (a.ndim - len(widths)), constant_values=value)

    mean, variance = padded(x.mean, value), padded(x.variance, 0.0)
    if mean.size == x.mean.size:
        return Normal(mean, variance, s.name, x.origin, x.values, x.links)
    return Normal(mean, variance, s.name, None, lambda: padded(x.values(), value), x.links)
