"""Which range of an activation's values gets integers; what lies beyond saturates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from pydantic import BaseModel, Field

from ....graph.registry import Registry
from ...calibration.statistics import Histogram
from ...precision.grid import Affine, Floats, Grid, affine

Range = tuple[float, float]
RangeMethod = Callable[[Histogram, Grid, bool], Range]
"""From the values' histogram, the integers there are, and whether they lie symmetrically, to the range."""

RANGES: Registry[RangeMethod] = Registry("range", "intaglio.ranges", "intaglio.passes.quantize.ranges")

BINS = 4096
"""Of the histograms: a power of two covers the values, so that one side has at least a quarter of them."""
_PARTS = np.geomspace(1 / 64, 1.0, 25)
"""Parts of the full range that are tried, then more of them around the best."""
_FINER = 12
_SATURATED = 0.01
"""Share of the values that entropy may let saturate."""


@RANGES.register("minmax")
def minmax(histogram: Histogram, grid: Grid, symmetric: bool) -> Range:
    """From the smallest to the largest value: nothing saturates."""
    return histogram.minimum, histogram.maximum


class Percentile(BaseModel):
    """Options of ``percentile``."""

    share: float = Field(default=0.9999, gt=0.5, le=1, description="fraction of the values that the range holds")


@RANGES.register("percentile", options=Percentile)
def percentile(histogram: Histogram, grid: Grid, symmetric: bool, options: Percentile) -> Range:
    """All but one of ten thousand values, or of another share.

    Source: McKinstry et al., "Discovering Low-Precision Networks Close to Full-Precision Networks for Efficient
    Embedded Inference", 2018, arXiv:1809.04191.
    """
    if symmetric:
        reach = histogram.quantile(options.share, magnitude=True)
        return -reach, reach
    beyond = (1 - options.share) / (1 if histogram.minimum >= 0 or histogram.maximum <= 0 else 2)
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    return (
        histogram.quantile(beyond) if low < 0 else low,
        histogram.quantile(1 - beyond) if high > 0 else high,
    )


@RANGES.register("mse")
def mse(histogram: Histogram, grid: Grid, symmetric: bool) -> Range:
    """The range with the least mean squared error of all values, rounding and saturation together.

    Source: Sung, Shin, Hwang, "Resiliency of Deep Neural Networks under Quantization", 2015, arXiv:1511.06488.
    """
    filled = _filled(histogram)
    return _least(histogram, lambda low, high: _squared(filled, affine(low, high, grid, symmetric=symmetric)))


@RANGES.register("entropy")
def entropy(histogram: Histogram, grid: Grid, symmetric: bool) -> Range:
    """The range whose integers say most about which values there were: least Kullback-Leibler divergence.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    Differs: both sides of an asymmetric range are tried; nought, which is always exact, does not count; no more than a
    hundredth of the other values may saturate, as a range with one value in it would lose nothing of itself.
    """
    filled = _filled(histogram, nought=False)
    if not filled[0].size:
        return minmax(histogram, grid, symmetric)
    centres, counts = filled
    most = _SATURATED * counts.sum()

    def loss(low: float, high: float) -> float:
        start, stop = np.searchsorted(centres, low), np.searchsorted(centres, high, "right")
        if counts[:start].sum() + counts[stop:].sum() > most:
            return np.inf
        return _divergence(filled, slice(start, stop), affine(low, high, grid, symmetric=symmetric))

    return _least(histogram, loss)


def _least(histogram: Histogram, loss: Callable[[float, float], float]) -> Range:
    """Shrink both sides together, then each alone."""
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if low == high:
        return low, high
    part = _best_part(lambda part: loss(part * low, part * high))
    if not low < 0 < high:
        return part * low, part * high
    lower = low * _best_part(lambda part_low: loss(part_low * low, part * high))
    return lower, high * _best_part(lambda part_high: loss(lower, part_high * high))


def _best_part(loss: Callable[[float], float]) -> float:
    loss = cache(loss)  # the finer parts begin and end with coarse ones
    coarse = min(range(len(_PARTS)), key=lambda k: loss(float(_PARTS[k])))
    around = np.linspace(_PARTS[max(coarse - 1, 0)], _PARTS[min(coarse + 1, len(_PARTS) - 1)], _FINER + 1)
    return float(min([float(_PARTS[coarse]), *map(float, around)], key=loss))


def _filled(histogram: Histogram, *, nought: bool = True) -> tuple[Floats, Floats]:
    """Centres and counts of the bins that hold values, with the bin that begins at nought or without it."""
    (places,) = np.nonzero(histogram.counts)
    if not nought:
        places = places[places != histogram.bins // 2]
    centres = -histogram.limit + (places + 0.5) * histogram.width
    return np.clip(centres, histogram.minimum, histogram.maximum), histogram.counts[places].astype(np.float64)


def squared_error(histogram: Histogram, found: Affine) -> float:
    """Mean squared error of all values that are counted."""
    return _squared(_filled(histogram), found) / max(1, histogram.count)


def rounding_error(found: Affine, values: np.ndarray) -> np.ndarray:
    """What rounding changes, in the precision of the values."""
    scale, zero = found.scale.astype(values.dtype), found.zero.astype(values.dtype)
    rounded = values / scale
    np.rint(rounded, out=rounded)
    np.clip(rounded, found.grid.low - zero, found.grid.high - zero, out=rounded)
    rounded *= scale
    rounded -= values
    return np.asarray(rounded)


def _squared(filled: tuple[Floats, Floats], found: Affine) -> float:
    centres, counts = filled
    return float(counts @ np.square(rounding_error(found, centres)))


def _divergence(filled: tuple[Floats, Floats], within: slice, found: Affine) -> float:
    centres, counts = filled
    inside, total = counts[within], counts.sum()
    reference = inside.copy()
    reference[0] += counts[: within.start].sum()
    reference[-1] += counts[within.stop :].sum()
    # Each level's values, shared out evenly over the bins that belong to it.
    first = np.flatnonzero(np.diff(found.integers(centres[within]), prepend=found.grid.low - 1))
    bins = np.diff(first, append=len(inside))
    model = np.repeat(np.add.reduceat(inside, first) / bins, bins)
    return float(reference @ np.log(reference / model * (inside.sum() / total)) / total)
