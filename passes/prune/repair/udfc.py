"""Restoration: removed channels are put together from those that stay, in closed form and without data."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from ....graph.coupling import Removal
from ...base import Context
from ...calibration.normal.moments import Floats
from ..consumers import Consumer, find_consumers
from .absorb import Edits, share_left
from .repair import REPAIRS, Repaired

RIDGE = 0.1
"""Of the mean variance. On a ResNet-20 anything from 0.03 to 0.3 was as good."""


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


def restore(
    gram: Floats,
    damaged: NDArray[np.bool_],
    basis: NDArray[np.bool_],
    *,
    ridge: float = RIDGE,
) -> Floats:
    """How the damaged are best put together from a basis: (G_BB + r I)^-1 G_BD.

    ``gram`` has inner products of whatever is combined: covariances of channels, or products of filters; to restore from
    quantized filters these stand in it beside their originals. ``ridge`` is relative to the basis' mean square.

    Shapes: gram (n, n), damaged, basis (n,) -> (basis, damaged).
    """
    inner, across = gram[np.ix_(basis, basis)], gram[np.ix_(basis, damaged)]
    size = np.trace(inner) / len(inner)
    if size <= 0:
        return np.zeros_like(across)
    return np.asarray(scipy.linalg.solve(inner + ridge * size * np.eye(len(inner)), across, assume_a="pos"))
