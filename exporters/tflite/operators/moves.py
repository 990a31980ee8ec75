"""What moves numbers: kinds stay, axes are renamed to those of the stored tensor."""

from __future__ import annotations

import numpy as np

from ....graph.evaluate import slices
from ....graph.nodes import attribute
from ..builder import Builder, rounded
from ..plan import Step, shifted
from ..program import Kind, Tensor, channels_last, plain, shaped
from ..table import Refused, axis_of, converts


@converts("Identity", "Dropout")
def identity(step: Step, make: Builder) -> None:
    make.give(*make.held(step.operand(0)))


@converts("Reshape", "Flatten", "Squeeze", "Unsqueeze", integer=True)
def reshape(step: Step, make: Builder) -> None:
    make.give(make.reshape(make.read(step.operand(0)), make.dims(step.output)))


@converts("Transpose", integer=True)
def transpose(step: Step, make: Builder) -> None:
    """Nothing moves: the stored axes get other names."""
    x, order = make.held(step.operand(0))
    perm = attribute(step.node, "perm", None) or list(range(len(order)))[::-1]
    make.give(x, tuple(perm.index(axis) for axis in order))


@converts("Concat", integer=True)
def concat(step: Step, make: Builder) -> None:
    names, out = [name for name in step.node.input if name], make.dims(step.output)
    names = [name for name in names if 0 not in make.dims(name)] or names[:1]
    order = make.common(names)
    axis = order.index(axis_of(step.node, len(out), 0))
    parts = [_as_wanted(make.read(name, order), make) for name in names]
    make.give(make.emit("CONCATENATION", parts, shaped(out, order), make.wanted, "NONE", axis=axis), order)


def _as_wanted(x: Tensor, make: Builder) -> Tensor:
    """Integers with the scales of what is made of them."""
    if not make.step.integer or x.kind.same(make.wanted):
        return x
    return make.emit("QUANTIZE", [x], x.shape, make.wanted)


@converts("Split", integer=True)
def split(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    axis = axis_of(step.node, len(order), 0)
    begin = 0
    for at, name in enumerate(step.node.output):
        out = shaped(make.dims(name), order)
        if name:
            make.give(part(x, order.index(axis), begin, out, make), order, at)
        begin += make.dims(name)[axis]


def part(x: Tensor, axis: int, begin: int, shape: tuple[int, ...], make: Builder) -> Tensor:
    """A stretch of an axis."""
    begins = np.array([begin if k == axis else 0 for k in range(x.rank)], np.int32)
    return make.emit("SLICE", [x, make.constant(begins), make.constant(np.array(shape, np.int32))], shape, x.kind)


@converts("Slice", integer=True)
def slice_(step: Step, make: Builder) -> None:
    """Begins, ends and steps for every axis."""
    operands = [None, *(make.known(name) if name else None for name in step.node.input[1:])]
    if any(value is None for value, name in zip(operands[1:], step.node.input[1:], strict=True) if name):
        raise Refused("its ends are computed", "fold them into constants")
    x, order = make.held(step.operand(0))
    cuts = slices(step.node, operands, len(order))
    spans = [cuts[axis].indices(length) for axis, length in zip(order, x.shape, strict=True)]
    shape = shaped(make.dims(step.output), order)
    for axis, (begin, _, by) in enumerate(spans):
        if by > 1 and begin < by and shape[axis] * by == x.shape[axis]:
            x = _every(x, axis, begin, by, make)
            spans[axis] = (0, shape[axis], 1)
    if all(span == (0, length, 1) for span, length in zip(spans, x.shape, strict=True)):
        make.give(x, order)
        return
    if all(by == 1 for _, _, by in spans):
        begins = [begin for begin, _, _ in spans]
        parts = [make.constant(np.array(v, np.int32)) for v in (begins, shape)]
        make.give(make.emit("SLICE", [x, *parts], shape, x.kind), order)
        return
    # An end of -1 counts from behind in TFLite: below index 0 it is left open.
    open_ = sum(1 << k for k, (_, end, by) in enumerate(spans) if by < 0 and end < 0)
    parts = [make.constant(np.array(v, np.int32)) for v in zip(*spans, strict=True)]
    make.give(make.emit("STRIDED_SLICE", [x, *parts], shape, x.kind, endMask=open_), order)


def _every(x: Tensor, axis: int, begin: int, step: int, make: Builder) -> Tensor:
    """Every so many of an axis: the first columns of longer rows, which are copied many times faster."""
    shape = (*x.shape[:axis], x.shape[axis] // step, *x.shape[axis + 1 :])
    inner = int(np.prod(x.shape[axis + 1 :]))
    rows = make.reshape(x, (int(np.prod(x.shape[:axis])), shape[axis], step * inner))
    cut = part(rows, 2, begin * inner, (*rows.shape[:2], inner), make)
    return make.reshape(cut, shape)


@converts("Gather", integer=True)
def gather(step: Step, make: Builder) -> None:
    name, indices = step.operand(0), step.operand(1)
    dims = make.dims(name)
    axis = axis_of(step.node, len(dims), 0)
    at = make.known(indices)
    from_front = None if at is None else np.where(at < 0, at + dims[axis], at).astype(np.int32)
    where = make.read(indices) if from_front is None else make.constant(from_front)
    x, out = make.read(name), make.dims(step.output)
    make.give(make.emit("GATHER", [x, where], out, x.kind, axis=axis, batchDims=0))


@converts("GatherND")
def gather_nd(step: Step, make: Builder) -> None:
    if attribute(step.node, "batch_dims", 0):
        raise Refused("it has batch axes", "use GatherND without batch_dims")
    x = make.read(step.operand(0))
    make.give(make.emit("GATHER_ND", [x, make.read(step.operand(1))], make.dims(step.output), x.kind))


@converts("Expand", integer=True)
def expand(step: Step, make: Builder) -> None:
    out = make.dims(step.output)
    x = make.aligned(step.operand(0), plain(len(out)))
    make.give(make.emit("BROADCAST_TO", [x, make.constant(np.array(out, np.int32))], out, x.kind))


@converts("Tile", integer=True)
def tile(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    repeats = make.ints(step.operand(1))
    times = make.constant(np.array(shaped(repeats, order), np.int32))
    make.give(make.emit("TILE", [x, times], shaped(make.dims(step.output), order), x.kind), order)


_MIRRORS = {"reflect": 0}


@converts("Pad", integer=True)
def pad(step: Step, make: Builder) -> None:
    """Negative padding cuts off first."""
    x, order = make.held(step.operand(0))
    rank, given = len(order), make.ints(step.operand(1))
    axes = [a % rank for a in make.ints(step.operand(3))] if step.operand(3) else list(range(rank))
    pairs = {axis: (given[k], given[k + len(axes)]) for k, axis in enumerate(axes)}
    stored = [pairs.get(axis, (0, 0)) for axis in order]
    x = _cut(x, stored, make)
    shape, mode = shaped(make.dims(step.output), order), attribute(step.node, "mode", "constant")
    around = make.constant(np.maximum(np.array(stored, np.int32), 0))
    if mode == "constant":
        make.give(_filled(step, x, around, shape, make), order)
        return
    if mode == "edge":
        for axis, (begin, end) in enumerate(stored):
            x = _repeated(x, axis, max(begin, 0), max(end, 0), make)
        make.give(x, order)
        return
    if mode not in _MIRRORS:
        raise Refused(f"padding with mode {mode!r} has no operator", "pad with constants or by reflection")
    make.give(make.emit("MIRROR_PAD", [x, around], shape, x.kind, mode=_MIRRORS[mode]), order)


def _repeated(x: Tensor, axis: int, begin: int, end: int, make: Builder) -> Tensor:
    """An axis with its first and its last entry several times more."""
    one = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
    first = [part(x, axis, 0, one, make)] * begin
    last = [part(x, axis, x.shape[axis] - 1, one, make)] * end
    if not first and not last:
        return x
    shape = tuple(n + (begin + end) * (k == axis) for k, n in enumerate(x.shape))
    return make.emit("CONCATENATION", [*first, x, *last], shape, x.kind, "NONE", axis=axis)


def _cut(x: Tensor, pairs: list[tuple[int, int]], make: Builder) -> Tensor:
    begins = [max(0, -b) for b, _ in pairs]
    shape = tuple(n - b - max(0, -e) for n, b, (_, e) in zip(x.shape, begins, pairs, strict=True))
    if shape == x.shape:
        return x
    spans = [make.constant(np.array(v, np.int32)) for v in (begins, shape)]
    return make.emit("SLICE", [x, *spans], shape, x.kind)


def _filled(step: Step, x: Tensor, around: Tensor, shape: tuple[int, ...], make: Builder) -> Tensor:
    name = step.operand(2)
    fill = make.known(name) if name else np.zeros((), np.float32)
    if fill is None:
        raise Refused("what it fills with is computed", "make it a constant")
    value, scales = fill.reshape(()), x.kind.scales
    if scales is not None:
        value = rounded(value, x.kind) if value.dtype.kind == "f" else shifted(value)
    if value == (0 if scales is None else scales.zero):
        return make.emit("PAD", [x, around], shape, x.kind)
    held = Tensor((), Kind(x.kind.dtype, scales), "", value.astype(x.kind.dtype))
    return make.emit("PADV2", [x, around, held], shape, x.kind)


@converts("DepthToSpace", integer=True, narrow=True)
def depth_to_space(step: Step, make: Builder) -> None:
    """Channels are ordered by block first (DCR), as TFLite has them; else they are put in that order."""
    size, order = attribute(step.node, "blocksize"), channels_last(4)
    x, out = make.read(step.operand(0), order), shaped(make.dims(step.output), order)
    if attribute(step.node, "mode", "DCR") == "CRD":
        kept = np.arange(x.shape[3]).reshape(-1, size * size).T.reshape(-1).astype(np.int32)
        x = make.emit("GATHER", [x, make.constant(kept)], x.shape, x.kind, axis=3, batchDims=0)
    make.give(make.emit("DEPTH_TO_SPACE", [x], out, x.kind, blockSize=size), order)


@converts("SpaceToDepth", integer=True, narrow=True)
def space_to_depth(step: Step, make: Builder) -> None:
    order = channels_last(4)
    x, out = make.read(step.operand(0), order), shaped(make.dims(step.output), order)
    size = attribute(step.node, "blocksize")
    make.give(make.emit("SPACE_TO_DEPTH", [x], out, x.kind, blockSize=size), order)


@converts("Trilu")
def trilu(step: Step, make: Builder) -> None:
    """A mask of ones on one side of a diagonal."""
    x = make.read(step.operand(0))
    k = make.ints(step.operand(1))[0] if step.operand(1) else 0
    ones = np.ones(x.shape[-2:], bool)
    mask = make.constant(np.triu(ones, k) if attribute(step.node, "upper", 1) else np.tril(ones, k))
    nought = make.constant(np.zeros((), x.kind.dtype))
    make.give(make.emit("SELECT_V2", [mask, x, nought], x.shape, x.kind))


@converts("CumSum")
def cum_sum(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    (axis,) = make.ints(step.operand(1))
    at = make.constant(np.array(order.index(axis % len(order)), np.int32))
    exclusive, reverse = (bool(attribute(step.node, name, 0)) for name in ("exclusive", "reverse"))
    make.give(make.emit("CUMSUM", [x, at], x.shape, exclusive=exclusive, reverse=reverse), order)
