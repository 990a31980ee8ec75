"""Reading and writing at indices: constant ones are followed, computed ones freeze the axis they address."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..labels import LENGTH_ONE, Axes
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("Gather")
def gather(n: Node) -> Sequence[Axes]:
    """Indices of any rank replace the axis; a constant table of them is a read, then a reshape."""
    at = n.attr("axis", 0) % n.rank(0)
    indices = n.value(1)
    if indices is None:
        n.freeze_axis(0, at, "reads it at computed indices")
        axes = n.axes(0)
        return [(*axes[:at], *n.axes(1), *axes[at + 1 :])]
    axes, length = n.axes(0), n.dims(0)[at]
    flat = np.asarray(indices, dtype=np.int64).reshape(-1) % length
    shape = indices.shape
    if flat.size <= 1:
        if flat.size:
            n.take(axes[at], flat)
        read: Axes = (LENGTH_ONE,) * len(shape)
    else:
        read = n.split(n.take(axes[at], flat), shape)
    return [(*axes[:at], *read, *axes[at + 1 :])]


@rewrites("Gather")
def gather_indices(e: Edit) -> None:
    """Drop indices whose channels went, renumber the others."""
    at = e.attr("axis", 0) % e.node.rank(0)
    indices = e.node.value(1)
    if indices is None or not e.shrinks(0, at):
        return
    keep = e.keep(0, at)
    place = np.cumsum(keep) - 1
    left = np.asarray(indices, dtype=np.int64) % len(keep)
    for a in range(left.ndim):
        if e.shrinks_out(0, at + a):
            left = np.compress(e.keep_out(0, at + a), left, axis=a)
    e.set_input(1, place[left].astype(indices.dtype))


@couples("GatherElements")
def gather_elements(n: Node) -> Sequence[Axes]:
    """Indices have the output's shape; off the addressed axis they walk along with the data."""
    at = n.attr("axis", 0) % n.rank(0)
    return [_alongside(n, at, 1, "reads it at computed indices")]


def _alongside(n: Node, at: int, i: int, text: str) -> Axes:
    """Data and operand ``i`` share every axis but ``at``, on which the data stays whole."""
    n.freeze_axis(0, at, text)
    out = []
    for a, (length, other) in enumerate(zip(n.dims(0), n.dims(i), strict=True)):
        if a == at:
            out.append(n.axis(i, a))
        elif length == other:
            out.append(n.same(n.axis(0, a), n.axis(i, a)))
        else:
            n.freeze_axis(0, a, text)
            out.append(n.freeze_axis(i, a, text) if other > 1 else LENGTH_ONE)
    return tuple(out)


@couples("GatherND")
def gather_nd(n: Node) -> Sequence[Axes]:
    """Shapes: data (batch..., addressed..., rest...), indices (batch..., any..., addressed), y (batch..., any..., rest...)."""
    batch, depth = n.attr("batch_dims", 0), n.dims(1)[-1]
    n.freeze_rest(0, *range(batch + depth, n.rank(0)), text="reads it at computed indices")
    n.freeze_rest(1, text="holds positions")
    head = n.unlabelled(0, n.why("reads it at computed indices"))
    rest = n.axes(0)[batch + depth :]
    return [(*head[: len(head) - len(rest)], *rest)]


@couples("ScatterElements", "Scatter")
def scatter_elements(n: Node) -> Sequence[Axes]:
    """Operands: data, indices, updates. Off the addressed axis updates cover the data or the axis stays whole."""
    at = n.attr("axis", 0) % n.rank(0)
    for i in (1, 2):
        n.freeze_axis(i, at, "writes it at computed indices")
        _alongside(n, at, i, "writes it at computed indices")
    return [n.axes(0)]


@couples("ScatterND")
def scatter_nd(n: Node) -> Sequence[Axes]:
    """Shapes: data (addressed..., rest...), indices (any..., addressed), updates (any..., rest...)."""
    depth = n.dims(1)[-1]
    n.freeze_rest(0, *range(depth, n.rank(0)), text="writes it at computed indices")
    n.freeze_rest(1, text="holds positions")
    rest = n.rank(0) - depth
    n.freeze_rest(2, *range(n.rank(2) - rest, n.rank(2)), text="writes it at computed indices")
    for a in range(rest):
        n.same(n.axis(0, depth + a), n.axis(2, n.rank(2) - rest + a))
    return [n.axes(0)]


@couples("TopK")
def top_k(n: Node) -> Sequence[Axes]:
    at = n.attr("axis", -1) % n.rank(0)
    n.freeze_axis(0, at, "ranks its indices")
    out = tuple(n.why("ranks its indices") if a == at else axis for a, axis in enumerate(n.axes(0)))
    return [out, out]


@couples("OneHot")
def one_hot(n: Node) -> Sequence[Axes]:
    """The new axis stands for values, which stay."""
    for i in range(3):
        n.freeze_rest(i, text="holds values to encode")
    return [n.unlabelled(0, n.why("encodes values along it"))]


@couples("Compress")
def compress(n: Node) -> Sequence[Axes]:
    return n.frozen("keeps indices chosen by a condition")
