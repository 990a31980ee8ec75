"""Restoration: removed channels are put together from those that stay, in closed form and without data."""

from __future__ import annotations

from ....graph.coupling import Removal
from ...base import Context
from ...calibration.normal.moments import Floats
from ...calibration.normal.restore import restore
from ..consumers import Consumer, find_consumers
from .absorb import Edits, share_left
from .repair import REPAIRS, Repaired


@REPAIRS.register("udfc")
def udfc(removal: Removal, context: Context) -> Repaired:
    """Layers read removed channels' best linear combination of kept ones; means and variances follow. Needs no data.

    Source: Bai et al., "Unified Data-Free Compression: Pruning and Quantization without Fine-Tuning", ICCV 2023,
    arXiv:2308.07209.
    Differs: a combination that restores filters restores their channels only up to the activation. Here filters (of
    layer and BatchNormalization together) tell how channels vary together before it, as if the layer's input were white;
    from that follows, in closed form, how they do after it, and the combination is the best there. It can then never be
    predicted to be worse than none. With the filters' own inner products a ridge near the mean was needed for that, and
    sums with a rectified shortcut were still harmed. Means are absorbed and variances followed as ``renormalize`` does.

    Raises:
        RepairImpossible: nothing tells what any removed channel is like.
    """
    consumers = find_consumers(removal, "udfc", correlated=True)
    edits = Edits(removal.coupling)
    restored, absorbed, renormalized = {}, 0, 0
    for c in consumers.known:
        name, old = c.layer.weight, removal.coupling.model.weights[c.layer.weight]
        covariance = c.x.covariance() if c.x.correlation is not None and c.one_to_one else None
        taps = c.taps if covariance is None or not edits.owns(name) else _restored(c, covariance)
        if not edits.shift(c.layer, c.lost_mean(taps)):
            continue
        absorbed += 1
        renormalized += edits.rescale(c.layer, share_left(c, taps, covariance))
        if taps is not c.taps:
            restored[name] = c.layer.weight_like(taps.reshape(*taps.shape[:2], -1), old)
    counts = {"absorbed": absorbed, "renormalized": renormalized, "restored": len(restored)}
    return Repaired(
        {**edits.weights, **restored}, {"layers": len(consumers), **counts}, [*consumers.notes, *edits.notes]
    )


def _restored(c: Consumer, covariance: Floats) -> Floats:
    """The layer's taps with those of removed inputs spread over the kept ones, within each group of a convolution."""
    taps, width = c.taps.copy(), c.taps.shape[-1]
    for g in range(len(taps)):
        inputs = slice(g * width, (g + 1) * width)
        removed = c.removed[inputs]
        if removed.any() and not removed.all():
            shares = restore(covariance[inputs, inputs], removed, ~removed)
            taps[g][..., ~removed] += taps[g][..., removed] @ shares.T
    return taps
