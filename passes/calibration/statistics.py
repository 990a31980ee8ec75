"""Statistics of tensors, gathered piece by piece in memory that does not grow with the data.

Ranges and counts of all values do not depend on how the samples are cut into pieces, nor on their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...graph.errors import BadData, BadModel

Floats = NDArray[np.float64]
T = TypeVar("T")
_BLOCK = 1 << 17
"""Elements converted to float64 at once: 1 MiB, which a core's own cache holds."""
_SMALLEST_EXPONENT = -1000
"""A histogram starts with the range of 2 to this power, below every number that float32 can hold."""
_LARGEST_EXPONENT = 127
"""Of a power of two in float32."""
_NOTHING = "there are no values to take statistics of"


class NotFinite(BadModel):
    """A tensor holds NaN or infinity."""


class Statistic(Protocol):
    """Takes a tensor piece by piece."""

    def add(self, values: np.ndarray) -> None:
        """Take in one more piece. Raises BadModel where it holds no real numbers, NotFinite where NaN or infinity."""


@dataclass
class Range:
    """Smallest and largest value, of all or of each channel."""

    axis: int | None = None
    _low: Floats | None = field(default=None, init=False, repr=False)
    _high: Floats | None = field(default=None, init=False, repr=False)

    def add(self, values: np.ndarray) -> None:
        _check_real(values)
        if self.axis is not None and not -values.ndim <= self.axis < values.ndim:
            raise BadModel(f"it has shape {values.shape} and so no axis {self.axis} that could count channels")
        others = tuple(a for a in range(values.ndim) if self.axis is None or a != self.axis % values.ndim)
        if not values.size:
            return
        low, high = (np.asarray(end(axis=others), np.float64) for end in (values.min, values.max))
        if not np.isfinite([low, high]).all():
            raise _not_finite(values)
        if self._low is not None and self._high is not None:
            if low.shape != self._low.shape:
                raise BadModel(f"its axis {self.axis} changes from {len(self._low)} to {len(low)} channels")
            low, high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._low, self._high = low, high

    @property
    def minimum(self) -> Floats:
        """Shapes: (channels,), or () over all values."""
        return _told(self._low)

    @property
    def maximum(self) -> Floats:
        return _told(self._high)


@dataclass
class Histogram:
    """Counts of values in ``bins`` equal bins from -limit to limit, the limit being the power of two that holds all.

    Bin i holds -limit + i·width <= x < -limit + (i + 1)·width. A larger value doubles the limit as often as needed,
    which merges whole bins: the counts are those that the final limit gives. ``bins`` is a power of two, so that a bin
    is one as wide as well and no value falls beside its bin by rounding. Smallest and largest are those of all values;
    counted is one in ``every``, in the order in which they come.
    """

    bins: int = 2048
    every: int = 1
    counts: NDArray[np.int64] = field(init=False, repr=False)
    _exponent: int = field(default=_SMALLEST_EXPONENT, init=False, repr=False)
    _low: float = field(default=math.inf, init=False, repr=False)
    _high: float = field(default=-math.inf, init=False, repr=False)
    _skip: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.bins < 2 or self.bins & (self.bins - 1):
            raise ValueError(f"bins must be a power of two, at least 2, not {self.bins}")
        self.counts = np.zeros(self.bins, np.int64)

    def add(self, values: np.ndarray) -> None:
        for block in _blocks(values):
            low, high = float(block.min()), float(block.max())
            if not math.isfinite(low + high):
                raise _not_finite(values)
            self._low, self._high = min(self._low, low), max(self._high, high)
            if low or high:  # nought has no exponent
                self._grow(math.frexp(max(-low, high))[1])
            counted = block[self._skip :: self.every]
            self._skip = (self._skip - block.size) % self.every
            scaled = counted * self._per_width(block)
            place = np.floor(scaled, out=scaled).astype(np.int32)
            place += self.bins // 2
            self.counts += np.bincount(place, minlength=self.bins)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def minimum(self) -> float:
        return _told(self._low if self.counts.any() else None)

    @property
    def maximum(self) -> float:
        return _told(self._high if self.counts.any() else None)

    @property
    def limit(self) -> float:
        return math.ldexp(1.0, self._exponent)

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self._width_exponent)

    @property
    def magnitudes(self) -> NDArray[np.int64]:
        """Counts of absolute values, in bins of the same width from 0 to the limit. Shapes: (bins / 2,)."""
        half = self.bins // 2
        return self.counts[half:] + self.counts[:half][::-1]

    def quantile(self, share: float, *, magnitude: bool = False) -> float:
        """The smallest value that at least this share of the values (or absolute values) does not exceed.

        Right to one bin's width; exactly the smallest value for 0 and the largest for 1, but for the smallest absolute
        value where there are values on both sides of 0.
        """
        low, high = self.minimum, self.maximum
        counts, start, exact = self.counts, -self.limit, True
        if magnitude:
            low, high, exact = max(0.0, low, -high), max(-low, high), low >= 0 or high <= 0
            counts, start = self.magnitudes, 0.0
        if share >= 1:
            return high
        if share <= 0 and exact:
            return low
        reached = np.cumsum(counts)
        rank = max(1, math.ceil(share * int(reached[-1])))
        place = int(np.searchsorted(reached, rank))
        inside = (rank - (reached[place] - counts[place]) - 0.5) / counts[place]
        return min(max(start + (place + float(inside)) * self.width, low), high)

    @property
    def _width_exponent(self) -> int:
        return self._exponent - (self.bins // 2).bit_length() + 1

    def _per_width(self, block: np.ndarray) -> np.floating:
        """One over a bin's width, in float32 where products with it are as exact there: none can leave its range."""
        doublings = -self._width_exponent
        narrow = block.dtype == np.float32 and 0 <= doublings <= _LARGEST_EXPONENT
        return (np.float32 if narrow else np.float64)(math.ldexp(1.0, doublings))

    def _grow(self, exponent: int) -> None:
        """Double the limit until it is at least 2 to this power."""
        doublings = exponent - self._exponent
        if doublings <= 0:
            return
        half = self.bins // 2
        merged = np.zeros_like(self.counts)
        np.add.at(merged, (np.arange(-half, half) >> min(doublings, 62)) + half, self.counts)
        self.counts, self._exponent = merged, exponent


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of the tensor of bounded size: as they are in float32, else in float64, ml_dtypes too."""
    _check_real(values)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        yield block if block.dtype == np.float32 else block.astype(np.float64)


def _check_real(values: np.ndarray) -> None:
    if values.dtype.kind in "OSUMmc":
        raise BadModel(f"it holds {values.dtype}, no real numbers")


def _not_finite(values: np.ndarray) -> NotFinite:
    wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
    return NotFinite(f"{wrong} of its {values.size} values are NaN or infinite")


def _told(value: T | None) -> T:
    if value is None:
        raise BadData(_NOTHING)
    return value
