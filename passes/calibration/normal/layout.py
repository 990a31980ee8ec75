"""How operators that move indices about carry the mean and variance of channels on.

A move acts alike on means, variances, values and the numbers of channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from ....graph.evaluate import slices
from ....graph.nodes import as_ints
from .moments import Floats, Floats32, Normal, Step, Unknown, carries

_LARGEST_TABLE = 1 << 24
"""Elements above which a reshape is not followed."""
_LARGEST_CORRELATION = 1 << 13
"""Channels above which correlations are not followed through a change of order."""


def _moved(s: Step, j: int, move: Callable[[Any], Any]) -> Normal:
    """Channels in another order or shape. ``move`` acts on arrays of the operand's shape or with further axes."""
    x = s.x
    places = move(np.arange(x.mean.size).reshape(x.mean.shape))
    if places.size == x.mean.size and (places.reshape(-1) == np.arange(x.mean.size)).all():
        return replace(x, mean=move(x.mean), variance=move(x.variance), values=lambda: move(x.values()))
    return _picked(x, s.node.output[j], places, move(x.mean), move(x.variance), lambda: move(x.values()))


def _picked(
    x: Normal, name: str, places: np.ndarray, mean: Floats, variance: Floats, values: Callable[[], Floats]
) -> Normal:
    """Some of the channels of ``x``; where ``places`` is -1, something that does not vary."""
    correlation = None
    if x.correlation is not None and places.size <= _LARGEST_CORRELATION:
        flat = places.reshape(-1)
        correlation = x.correlation[np.ix_(flat, flat)]
        correlation[(flat < 0)[:, None] | (flat < 0)] = 0
        np.fill_diagonal(correlation, 1)
    return Normal(mean, variance, name, None, values, correlation, x.links)


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
    if math.prod(old) != math.prod(new) or 0 in old:
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
        shape = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays))
        whole = [(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]
        return np.concatenate([np.broadcast_to(a, w) for a, w in zip(arrays, whole, strict=True)], axis=axis)

    mean, variance = join([x.mean for x in known]), join([x.variance for x in known])
    links = max(x.links for x in known)
    return Normal(mean, variance, s.name, None, lambda: join([x.values() for x in known]), _blocks(s, mean), links)


def _blocks(s: Step, joined: Floats) -> Floats32 | None:
    """Correlations of independent tensors one after the other."""
    known = [x for x in s.operands if x is not None]
    if not s.correlated or sum(x.mean.size for x in known) != max(joined.shape) or max(joined.shape) != joined.size:
        return None
    parts = [x.correlation if x.correlation is not None else np.eye(x.mean.size, dtype=np.float32) for x in known]
    return np.asarray(scipy.linalg.block_diag(*parts), dtype=np.float32)


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

    def padded(a: Any, value: float) -> Any:
        return np.pad(a, widths + [(0, 0)] * (a.ndim - len(widths)), constant_values=value)

    mean, variance = padded(x.mean, value), padded(x.variance, 0.0)
    if mean.size == x.mean.size:
        return replace(x, base=s.name)
    places = padded(np.arange(x.mean.size).reshape(x.mean.shape), -1)
    return _picked(x, s.name, places, mean, variance, lambda: padded(x.values(), value))
