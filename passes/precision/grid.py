"""Integers that stand for real numbers: x = scale · (q - zero).

Which integers there are is a ``Grid``; scale and zero point say where they lie. ``Affine`` is a tensor's, with one pair;
``Quantized`` is a weight's, with one for each row or for blocks of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...graph.io.spill import spilled

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_TINY = float(np.finfo(np.float32).tiny)
_EMPTY = _TINY * 2.0**24
"""The scale where there is nothing but noughts."""
_LEAST = 2.0**-149
"""The least number above nought in single precision."""

CARRIERS: Mapping[tuple[int, bool], DTypeLike] = {
    (4, True): ml_dtypes.int4,
    (4, False): ml_dtypes.uint4,
    (8, True): np.int8,
    (8, False): np.uint8,
    (16, True): np.int16,
    (16, False): np.uint16,
}
"""Types that store so many bits, signed or not."""


def least_scale(size: Floats | float) -> Floats:
    """Sizes of scales that single precision can hold."""
    return np.where(size == 0, _EMPTY, np.maximum(size, _LEAST))


def covering_scale(size: Floats | float) -> Floats:
    """The same, rounded up where single precision is coarse, so that nothing is cut off."""
    if isinstance(size, float) and size >= _TINY:
        return np.asarray(size)
    return least_scale(np.where(np.less(size, _TINY), np.ceil(np.asarray(size) / _LEAST) * _LEAST, size))


@dataclass(frozen=True)
class Grid:
    """All integers of so many bits; ``narrow`` leaves out the lowest, so that those of a signed grid are symmetric."""

    bits: int
    signed: bool = True
    narrow: bool = False

    @property
    def low(self) -> int:
        return (-(1 << (self.bits - 1)) if self.signed else 0) + int(self.narrow)

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1

    @property
    def middle(self) -> int:
        """What stands for nought where the zero point is not chosen."""
        return 0 if self.signed else (self.low + self.high + 1) // 2

    @property
    def name(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @property
    def stored_bits(self) -> int:
        """Bits of the smallest type that holds it."""
        return min(bits for bits, signed in CARRIERS if signed == self.signed and bits >= self.bits)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(CARRIERS[self.stored_bits, self.signed])

    @property
    def narrow_type(self) -> np.dtype[np.generic]:
        """The smallest type of whole bytes, in which integers are worked on."""
        return np.dtype(CARRIERS[8 if self.bits <= 8 else 16, self.signed])

    def round(self, values: Floats, scale: Floats | float, zero: Floats | float = 0.0) -> Floats:
        """The nearest of the grid's integers, as floats; ties go to even, as in QuantizeLinear."""
        return np.clip(np.rint(values / scale) + zero, self.low, self.high)


WEIGHTS8 = Grid(8, narrow=True)


@dataclass(frozen=True)
class Affine:
    """Scale and zero point of a tensor. Shapes: () each."""

    grid: Grid
    scale: NDArray[np.float32]
    zero: Ints

    def integers(self, values: np.ndarray) -> Ints:
        scale, zero = self.scale.astype(np.float64), self.zero.astype(np.float64)
        return self.grid.round(np.asarray(values, np.float64), scale, zero).astype(np.int32)

    def floats(self, integers: np.ndarray) -> NDArray[np.float32]:
        return np.asarray((integers - self.zero.astype(np.float64)) * self.scale.astype(np.float64), np.float32)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest number of all that it can say."""
        low, high = (self.scale.astype(np.float64) * (q - self.zero) for q in (self.grid.low, self.grid.high))
        return float(low), float(high)


def affine(low: float, high: float, grid: Grid, *, symmetric: bool = False) -> Affine:
    """The scale and zero point with which a grid covers a range of numbers, nought always among them.

    Raises nothing: an empty range gets a tiny scale. A range that begins or ends at nought has the zero point at the
    grid's end, so that a rectifier before it changes nothing.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    steps = grid.high - grid.low
    if symmetric:
        reach = max(-low, high)
        zero = grid.middle
        scale = np.array(covering_scale(reach / min(grid.high - zero, zero - grid.low)), np.float32)
        return Affine(grid, scale, np.array(zero, np.int32))
    scale = np.array(covering_scale((high - low) / steps), np.float32)
    zero = round(min(max(grid.low - low / float(scale), grid.low), grid.high))
    return Affine(grid, scale, np.array(zero, np.int32))


@dataclass(frozen=True)
class Quantized:
    """A layer's matrices in integers; every ``block`` columns of a row share a scale, the last block may be shorter.

    Shapes: integers (groups, outputs, columns), scale and zero (groups, outputs, blocks); zero is None where it is 0.
    """

    grid: Grid
    integers: NDArray[np.integer]
    scale: Floats
    zero: Floats | None = None
    block: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Quantized]) -> Quantized:
        """Matrices of some outputs after the other as one, in files where they are large."""
        integers, scale = (np.concatenate([getattr(q, n) for q in parts], axis=1) for n in ("integers", "scale"))
        zeros = [np.zeros_like(q.scale) if q.zero is None else q.zero for q in parts]
        zero = None if all(q.zero is None for q in parts) else spilled(np.concatenate(zeros, axis=1))
        return cls(parts[0].grid, spilled(integers), spilled(scale), zero, parts[0].block)

    def rows(self, outputs: slice) -> Quantized:
        """Of some outputs."""
        zero = None if self.zero is None else self.zero[:, outputs]
        return replace(self, integers=self.integers[:, outputs], scale=self.scale[:, outputs], zero=zero)

    def floats(self) -> Floats:
        """What the integers stand for. Shapes: (groups, outputs, columns)."""
        columns = self.integers.shape[-1]
        scale = spread(self.scale, self.block, columns)
        zero = 0.0 if self.zero is None else spread(self.zero, self.block, columns)
        return np.asarray((self.integers - zero) * scale)


def spread(values: Floats, block: int, columns: int) -> Floats:
    """One value for each column from one for each block. Shapes: (..., blocks) -> (..., columns)."""
    return np.repeat(values, block or columns, axis=-1)[..., :columns]
