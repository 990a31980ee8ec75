"""Operators that move indices about without changing values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...evaluate import slices
from ...nodes import as_ints
from ..labels import LENGTH_ONE, Axes, Axis
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("Transpose")
def transpose(n: Node) -> Sequence[Axes]:
    order = n.attr("perm") or list(reversed(range(n.rank(0))))
    axes = n.axes(0)
    return [tuple(axes[a] for a in order)]


@couples("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(n: Node) -> Sequence[Axes]:
    """Merged axes become products, divided axes equal products."""
    return [n.reshape(n.axes(0), n.dims(0), n.out_dims())]


@rewrites("Reshape")
def reshape_target(e: Edit) -> None:
    """Lengths that shrink change, and so does a 0 that copies an axis which shrinks though its own does not."""
    target = e.node.value(1)
    changes = {}
    for a in range(len(e.node.out_dims())):
        entry = None if target is None else int(target[a])
        copies = a < e.node.rank(0) and e.kept(0, a) == e.kept_out(0, a)
        fixed = e.node.trace.fixed(e.node.proto.output[0], a)
        moved = fixed and a < e.node.rank(0) and e.shrinks(0, a) and not copies and entry in (0, None)
        if (e.shrinks_out(0, a) or moved) and entry != -1 and not (entry == 0 and copies):
            changes[a] = e.kept_out(0, a)
    e.patch(1, changes)


@rewrites("Squeeze")
def squeeze_axes(e: Edit) -> None:
    """Without axes it drops whatever has length 1, which what is left of another axis may have too."""
    if not e.node.has(1) and not e.attr("axes"):
        ones = [a for a, length in enumerate(e.node.dims(0)) if length == 1]
        if ones:
            e.set_setting(1, "axes", np.array(ones, dtype=np.int64))
        else:
            e.proto.op_type = "Identity"


@couples("Concat")
def concat(n: Node) -> Sequence[Axes]:
    return [joined(n, range(len(n.inputs)))]


def joined(n: Node, operands: Sequence[int]) -> Axes:
    """Operands side by side; off the axis along which they are, they agree."""
    at = n.attr("axis") % len(n.out_dims())
    rest = [tuple(LENGTH_ONE if a == at else x for a, x in enumerate(n.axes(i))) for i in operands]
    lengths = [tuple(1 if a == at else d for a, d in enumerate(n.dims(i))) for i in operands]
    out = list(n.meet(zip(rest, lengths, strict=True), tuple(1 if a == at else d for a, d in enumerate(n.out_dims()))))
    parts = [(n.axis(i, at), n.dims(i)[at]) for i in operands]
    if n.trace.fixed(n.proto.output[0], at):
        out[at] = n.cat(parts)
    else:
        out[at] = why = n.why("has an axis of varying length")
        for axis, _ in parts:
            n.freeze(axis, why)
    return tuple(out)


@couples("Split")
def split(n: Node) -> Sequence[Axes]:
    at = n.attr("axis", 0) % n.rank(0)
    axes = n.axes(0)
    ends = np.cumsum([n.out_dims(j)[at] for j in range(len(n.proto.output))])
    parts = []
    for j, end in enumerate(ends):
        length = n.out_dims(j)[at]
        part = n.take(axes[at], range(end - length, end))
        parts.append((*axes[:at], part, *axes[at + 1 :]))
    return parts


@rewrites("Split")
def split_sizes(e: Edit) -> None:
    at = e.attr("axis", 0) % e.node.rank(0)
    if any(e.shrinks_out(j, at) for j in range(len(e.proto.output))):
        e.drop_attr("num_outputs")
        sizes = [e.kept_out(j, at) for j in range(len(e.proto.output))]
        e.set_setting(1, "split", np.array(sizes, dtype=np.int64))


@couples("Slice")
def slice_(n: Node) -> Sequence[Axes]:
    """Bounds that are computed freeze the axes they cut."""
    axes, dims, cut_dims = n.axes(0), n.dims(0), n.out_dims()
    cuts = _cuts(n)
    if cuts is None:
        touched = _touched(n)
        why = n.why("cuts it at computed bounds")
        return [tuple(n.freeze(axis, why) if a in touched else axis for a, axis in enumerate(axes))]
    out: list[Axis] = []
    for a, axis in enumerate(axes):
        taken = range(dims[a])[cuts[a]]
        if cuts[a] == slice(None) or (len(taken) == dims[a] and _forward(cuts[a])):
            out.append(axis)
        elif len(taken) != cut_dims[a] or len(taken) == 0:
            out.append(n.freeze(axis, n.why("cuts it at computed bounds")))
        else:
            out.append(n.take(axis, taken))
    return [tuple(out)]


def _touched(n: Node) -> set[int]:
    """The axes that a cut at computed bounds is about."""
    rank = n.rank(0)
    axes = n.setting(3, "axes")
    if n.has(3) and axes is None:
        return set(range(rank))
    return {a % rank for a in as_ints(axes)} if axes is not None else set(range(n.dims(1)[0]))


def _forward(cut: slice) -> bool:
    return cut.step is None or cut.step > 0


def _cuts(n: Node) -> tuple[slice, ...] | None:
    """One Python slice per axis, or None where a bound is computed."""
    settings = [None, *(n.setting(i, name) for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1))]
    if settings[1] is None or settings[2] is None or any(n.has(i) and settings[i] is None for i in (3, 4)):
        return None
    return slices(n.proto, settings, n.rank(0))


@rewrites("Slice")
def slice_bounds(e: Edit) -> None:
    """New bounds where what is left is still regular, else a Gather after the cut."""
    cuts = _cuts(e.node)
    if cuts is None:
        return
    rows: list[tuple[int, int, int, int]] = []
    for a, cut in enumerate(cuts):
        if cut == slice(None):
            continue
        if not e.shrinks(0, a):
            step = cut.step or 1
            stop = cut.stop if cut.stop is not None else (-(2**31) if step < 0 else 2**31)
            bounds: tuple[int, int, int] | None = (cut.start, stop, step)
        else:
            keep = e.keep(0, a)
            place = np.cumsum(keep) - 1
            taken = np.arange(len(keep))[cut]
            indices = place[taken[keep[taken]]]
            bounds = _regular(indices)
        if bounds is None:
            e.gather_after(0, a, indices)
            continue
        rows.append((bounds[0], bounds[1], a, bounds[2]))
    for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        values = [row[i - 1] for row in rows]
        if name != "steps" or set(values) - {1} or e.node.has(4):
            e.set_setting(i, name, np.array(values, dtype=np.int64))


def _regular(indices: np.ndarray) -> tuple[int, int, int] | None:
    """Start, end and step that read these indices, if they are an arithmetic progression."""
    first = int(indices[0])
    if len(indices) == 1:
        return first, first + 1, 1
    gaps = np.diff(indices)
    if (gaps != gaps[0]).any():
        return None
    step, last = int(gaps[0]), int(indices[-1])
    end = last + 1 if step > 0 else last - 1
    return first, end if end >= 0 else -(2**31), step


@couples("Expand")
def expand(n: Node) -> Sequence[Axes]:
    """An axis of length 1 that becomes longer makes channels of its own."""
    out_dims = n.out_dims()
    added = len(out_dims) - n.rank(0)
    axes, dims = ((LENGTH_ONE,) * added + n.axes(0)), ((1,) * added + n.dims(0))
    why = n.why("repeats it a computed number of times")
    return [
        tuple(
            axis if old == new else (n.fresh(new) if n.trace.fixed(n.proto.output[0], a) else why)
            for a, (axis, old, new) in enumerate(zip(axes, dims, out_dims, strict=True))
        )
    ]


@rewrites("Expand")
def expand_target(e: Edit) -> None:
    target = e.node.value(1)
    shift = len(e.node.out_dims()) - e.node.dims(1)[0]
    changes = {}
    for a in range(len(e.node.out_dims())):
        if e.shrinks_out(0, a) and a >= shift and (target is None or int(target[a - shift]) != 1):
            changes[a - shift] = e.kept_out(0, a)
    e.patch(1, changes)


@couples("Tile")
def tile(n: Node) -> Sequence[Axes]:
    """Index of the output as (repeat, index)."""
    out: list[Axis] = []
    for a, (axis, old, new) in enumerate(zip(n.axes(0), n.dims(0), n.out_dims(), strict=True)):
        if old == new:
            out.append(axis)
        elif not n.trace.fixed(n.proto.output[0], a):
            out.append(n.freeze(axis, n.why("repeats it a computed number of times")))
        else:
            out.append(n.join((n.fresh(new // old), axis), (new // old, old)))
    return [tuple(out)]


@rewrites("Tile")
def tile_repeats(e: Edit) -> None:
    e.patch(1, {a: e.kept_out(0, a) // e.kept(0, a) for a in range(e.node.rank(0)) if e.shrinks_out(0, a)})


@couples("ReverseSequence")
def reverse_sequence(n: Node) -> Sequence[Axes]:
    for a in (n.attr("batch_axis", 1), n.attr("time_axis", 0)):
        n.freeze_axis(0, a, "reverses it")
    return [n.axes(0)]


@couples("Trilu")
def trilu(n: Node) -> Sequence[Axes]:
    for a in (-2, -1):
        n.freeze_axis(0, a, "keeps a triangle of it")
    return [n.axes(0)]
