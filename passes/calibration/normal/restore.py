"""Restoration: damaged channels are put together from those that stay, in closed form and without data.

Damaged is what was removed, and what was rounded. The closed form is one for both: least squares of what is lost on what
is left, with second moments that filters and BatchNormalization tell.

Source: Bai et al., "Unified Data-Free Compression: Pruning and Quantization without Fine-Tuning", ICCV 2023,
arXiv:2308.07209.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from .moments import GRID, Floats, Normal, mehler

RIDGE = 0.1
"""Of the mean variance. On a ResNet-20 with channels removed anything from 0.03 to 0.3 was as good."""

_NOTHING = 1e-200
"""A mean square below which its products are no numbers any more."""
_ROUNDING = 1e-6


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
    gram = _bounded(gram)
    inner, across = gram[np.ix_(basis, basis)], gram[np.ix_(basis, damaged)]
    size = np.trace(inner) / len(inner)
    if size < _NOTHING:
        return np.zeros_like(across)
    try:
        return np.asarray(scipy.linalg.solve(inner + ridge * size * np.eye(len(inner)), across, assume_a="pos"))
    except np.linalg.LinAlgError:  # rounding made it the products of nothing: the nearest that are some
        values, vectors = np.linalg.eigh(inner)
        return np.asarray((vectors / (values.clip(0) + ridge * size)) @ (vectors.T @ across))


def _bounded(gram: Floats) -> Floats:
    """Where channels hardly vary, their covariance may be the rounding of their means alone: none is larger than the
    variances of both allow.
    """
    root = np.sqrt(np.diag(gram).clip(0))
    most = root[:, None] * root
    wrong = np.abs(gram) > most * (1 + _ROUNDING)
    return np.where(wrong, np.clip(gram, -most, most), gram) if wrong.any() else gram


def lost_and_left(x: Normal, filters: Floats, rounded: Floats) -> Floats:
    """Covariance of what rounding takes from channels, and of the channels that it leaves, one after the other.

    ``x`` is a function of what a layer makes, channel by channel; ``filters`` are the layer's, BatchNormalization within
    them. As if the layer's input were white, a rounded filter makes a normal variable that is correlated with all others
    as filters point the same way, and deviates as much more as the filter is longer.

    Shapes: filters, rounded (n, columns) -> (2 n, 2 n).
    """
    rows = np.concatenate([filters, rounded])
    length = np.linalg.norm(rows, axis=1)
    units = rows / np.where(length > 0, length, 1.0)[:, None]
    wide, size = length > 0, len(filters)
    stretch = np.divide(length[size:], length[:size], out=np.ones(size), where=wide[:size])
    values = x.values().reshape(size, -1)
    stretched = np.stack([np.interp(s * GRID, GRID, row) for s, row in zip(stretch, values, strict=True)])
    both = mehler(np.concatenate([values, stretched]), units @ units.T)
    left = both[:, size:]
    lost = both[:, :size] - left
    return np.block([[lost[:size] - lost[size:], lost[size:].T], [lost[size:], left[size:]]])
