"""Windows, images, spectra and borders: channels pass, what a window or a grid covers stays whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...nodes import as_ints
from ..labels import LENGTH_ONE, Axes, Axis, Why
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool(n: Node) -> Sequence[Axes]:
    """MaxPool's second output counts over channels too, so asking for it freezes them."""
    if len(n.proto.output) > 1 and n.proto.output[1]:
        return n.frozen("numbers its positions")
    return pooled(n, 1)


def pooled(n: Node, channels: int) -> list[Axes]:
    """Samples and channels pass a window."""
    text = "slides a window over it"
    n.freeze_rest(0, 0, channels, text=text)
    kept = {a: n.axis(0, a) for a in (0, channels % n.rank(0))}
    return [tuple(kept.get(a, axis) for a, axis in enumerate(n.unlabelled(0, n.why(text))))]


@couples("RoiAlign", "MaxRoiPool", "GridSample")
def sample(n: Node) -> Sequence[Axes]:
    """Shapes: x (N, C, ...), y (N or regions, C, ...); the other operands are positions: regions (R, ...), grid (N, ...)."""
    text = "samples at computed positions" if n.op == "GridSample" else "cuts regions out of it"
    n.freeze_rest(0, 1, text=text)
    for i in range(1, len(n.inputs)):
        n.freeze_rest(i, text="reads positions from it")
    rest = n.unlabelled(0, n.why(text))
    return [(rest[0], n.axis(0, 1), *rest[2:])]


@couples("STFT")
def spectrogram(n: Node) -> Sequence[Axes]:
    """Shapes: signal (N, length[, 1 or 2]), y (N, frames, frequencies, 2); the other operands are a step and a window."""
    n.freeze_rest(0, 0, text="takes spectra along it")
    for i in range(1, len(n.inputs)):
        n.freeze_rest(i, text="takes spectra with it")
    return [(n.axis(0, 0), *n.unlabelled(0, n.why("makes frequencies of it"))[1:])]


@couples("DFT")
def spectrum(n: Node) -> Sequence[Axes]:
    """All axes pass but the transformed one and the last, of real and imaginary parts."""
    old, text = n.trace.opset < 20, "takes a spectrum along it"
    stated = n.value(2) if n.has(2) else np.asarray(n.attr("axis", 1) if old else -2)
    if stated is None:
        return n.frozen(text)
    through = {int(stated.reshape(-1)[0]) % n.rank(0), n.rank(0) - 1}
    kept = [a for a in range(n.rank(0)) if a not in through]
    n.freeze_rest(0, *kept, text=text)
    return [tuple(n.axis(0, a) if a in kept else axis for a, axis in enumerate(n.unlabelled(0, n.why(text))))]


@couples("Resize", "Upsample")
def resize(n: Node) -> Sequence[Axes]:
    """An axis that keeps its length passes, the others are resampled."""
    out: list[Axis] = []
    cropped = n.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    for a, (old, new) in enumerate(zip(n.dims(0), n.out_dims(), strict=True)):
        if old == new and not cropped:
            out.append(n.axis(0, a))
        else:
            why = n.freeze_axis(0, a, "resamples it")
            out.append(LENGTH_ONE if new == 1 else why)
    return [tuple(out)]


@rewrites("Resize")
def resize_sizes(e: Edit) -> None:
    """Only the form with explicit sizes names lengths; factors of 1 stay right."""
    if not e.node.has(3):
        return
    axes = e.attr("axes") or list(range(e.node.rank(0)))
    e.patch(3, {i: e.kept_out(0, a) for i, a in enumerate(axes) if e.shrinks_out(0, a)})


def _pads(n: Node) -> tuple[list[int], list[int]] | None:
    """What is added before and after each axis, or None where it is not known."""
    rank = n.rank(0)
    amounts = n.setting(1, "pads")
    if amounts is None:
        return None
    axes = n.value(3)
    if n.has(3) and axes is None:
        return None
    at = [a % rank for a in as_ints(axes)] if axes is not None else list(range(rank))
    before, after = [0] * rank, [0] * rank
    flat = as_ints(amounts)
    for k, a in enumerate(at):
        before[a], after[a] = flat[k], flat[k + len(at)]
    return before, after


@couples("Pad")
def pad(n: Node) -> Sequence[Axes]:
    """New indices filled with a constant are channels of their own; reflected or repeated ones depend on their place."""
    amounts = _pads(n)
    fills = n.attr("mode", "constant") == "constant"
    out: list[Axis] = []
    for a, (old, new) in enumerate(zip(n.dims(0), n.out_dims(), strict=True)):
        axis = n.axis(0, a)
        if amounts is None:
            out.append(axis if old == new else n.freeze(axis, n.why("pads it by a computed amount")))
            continue
        before, after = amounts[0][a], amounts[1][a]
        if not before and not after:
            out.append(axis)
        elif not fills or (isinstance(axis, Why) and axis is not LENGTH_ONE):
            out.append(n.freeze(axis, n.why("pads it from its own values")))
        else:
            out.append(_padded(n, axis, old, before, after))
    return [tuple(out)]


def _padded(n: Node, axis: Axis, length: int, before: int, after: int) -> Axis:
    cut = np.arange(max(0, -before), length - max(0, -after))
    inner = axis if len(cut) == length else n.take(axis, cut)
    before, after = max(0, before), max(0, after)
    return n.cat([(n.ledger.numbered(before), before), (inner, len(cut)), (n.ledger.numbered(after), after)])


@rewrites("Pad")
def pad_amounts(e: Edit) -> None:
    amounts = _pads(e.node)
    if amounts is None:
        return
    before, after = amounts
    rank = e.node.rank(0)
    for a in range(rank):
        if not (e.shrinks(0, a) or e.shrinks_out(0, a)) or not (before[a] or after[a]):
            continue
        kept = e.keep_out(0, a)
        if before[a] > 0:
            before[a] = int(kept[: before[a]].sum())
        elif before[a] < 0:
            before[a] = -int(e.keep(0, a)[: -before[a]].sum())
        if after[a] > 0:
            after[a] = int(kept[len(kept) - after[a] :].sum())
        elif after[a] < 0:
            after[a] = -int(e.keep(0, a)[after[a] :].sum())
    axes = e.node.value(3)
    at = [a % rank for a in as_ints(axes)] if axes is not None else list(range(rank))
    e.set_setting(1, "pads", np.array([before[a] for a in at] + [after[a] for a in at], dtype=np.int64))


@couples("DepthToSpace")
def depth_to_space(n: Node) -> Sequence[Axes]:
    """Channels as (block, block, channel), or (channel, block, block) in mode CRD."""
    block, width = n.attr("blocksize"), n.dims(0)[1]
    inner = width // (block * block)
    crd = n.attr("mode", "DCR") == "CRD"
    lengths = (inner, block, block) if crd else (block, block, inner)
    parts = n.split(n.axis(0, 1), lengths)
    for k, part in enumerate(parts):
        if k != (0 if crd else 2):
            n.freeze(part, n.why("spreads it over space"))
    n.spatial()
    rest = n.unlabelled(0, n.why("spreads channels over it"))
    return [(n.axis(0, 0), parts[0 if crd else 2], *rest[2:])]


@couples("SpaceToDepth")
def space_to_depth(n: Node) -> Sequence[Axes]:
    """Channels of the output as (block, block, channel)."""
    block = n.attr("blocksize")
    n.spatial()
    why = n.why("gathers it from space")
    channels = n.join((why, why, n.axis(0, 1)), (block, block, n.dims(0)[1]))
    rest = n.unlabelled(0, why)
    return [(n.axis(0, 0), channels, *rest[2:])]
