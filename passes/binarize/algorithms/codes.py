"""Weights in one or two bits: which of a few numbers each is, and the scales that those numbers are sums of.

A ``Book`` says how: the numbers of a row are ``pattern @ scale``, one row of the pattern for each. Two planes of signs
have the numbers ``±s1 ± s2``, ternary weights ``-s, 0, s``. Each number is a choice of signs as well, which is how it is
stored: a bit for each plane. A ``Code`` is a layer's matrices in such numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....graph.io.spill import spilled
from ....graph.layer import Floats

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Book:
    """The numbers that a weight may be. Shapes: pattern (numbers, terms), signs (numbers, planes), each sign 1 or -1."""

    name: str
    pattern: tuple[tuple[float, ...], ...]
    signs: tuple[tuple[int, ...], ...]

    @cached_property
    def table(self) -> Floats:
        return np.array(self.pattern, np.float64)

    @property
    def terms(self) -> int:
        return len(self.pattern[0])

    @property
    def planes(self) -> int:
        return len(self.signs[0])

    @cached_property
    def mixing(self) -> Floats:
        """``pattern = [signs, 1] @ mixing``. Shapes: (planes + 1, terms)."""
        basis = np.concatenate([np.array(self.signs, np.float64), np.ones((len(self.signs), 1))], axis=1)
        found = np.linalg.lstsq(basis, self.table, rcond=None)[0]
        return np.rint(found * 4) / 4  # halves, but for rounding

    def of_sign(self, values: Floats) -> Levels:
        """The first number of each value's sign."""
        negative = next(k for k, signs in enumerate(self.signs) if signs[0] < 0)
        positive = next(k for k, signs in enumerate(self.signs) if signs[0] > 0)
        return np.where(values < 0, negative, positive).astype(np.uint8)

    @property
    def shifted(self) -> bool:
        """Whether sums of signs need a constant beside them."""
        return bool(self.mixing[-1].any())

    @property
    def shift_is_sum(self) -> bool:
        """Whether that constant is the sum of the planes' scales, so that it need not be stored."""
        return bool((self.mixing[-1] == self.mixing[:-1].sum(axis=0)).all())


SIGN = Book("sign", ((1.0,), (-1.0,)), ((1,), (-1,)))
SHIFTED = Book("sign and mean", ((1.0, 1.0), (-1.0, 1.0)), ((1,), (-1,)))
TERNARY = Book("ternary", ((0.0,), (1.0,), (-1.0,)), ((1, -1), (1, 1), (-1, -1)))
TWO_PLANES = Book(
    "two planes", ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)), ((1, 1), (1, -1), (-1, 1), (-1, -1))
)
TWO_MASKS = Book("two masks", ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)), ((-1, -1), (1, -1), (-1, 1), (1, 1)))


@dataclass(frozen=True)
class Salient:
    """Weights that are stored in eight bits of magnitude; their signs are the code's. Shapes: mask and magnitude
    (groups, outputs, columns), step (groups, outputs).
    """

    mask: NDArray[np.bool_]
    magnitude: NDArray[np.uint8]
    step: Floats

    @classmethod
    def joined(cls, parts: Sequence[Code]) -> Salient | None:
        """Of codes of some outputs after the other."""
        if all(one.salient is None for one in parts):
            return None
        found = [one.salient or cls._none(one.levels) for one in parts]
        mask = spilled(np.concatenate([one.mask for one in found], axis=1))
        magnitude = spilled(np.concatenate([one.magnitude for one in found], axis=1))
        return cls(mask, magnitude, np.concatenate([one.step for one in found], axis=1))

    @classmethod
    def _none(cls, levels: Levels) -> Salient:
        return cls(np.zeros(levels.shape, bool), np.zeros_like(levels), np.zeros(levels.shape[:2]))

    def sizes(self) -> Floats:
        return np.asarray(self.magnitude * self.step[..., None])


@dataclass(frozen=True)
class Code:
    """A layer's matrices. Every ``block`` columns of a row share scales (0: all); flagged columns have others.

    ``column`` multiplies whole columns. Shapes: levels (groups, outputs, columns), scale (terms, groups, outputs,
    parts), flag (columns,), column (groups, columns).
    """

    book: Book
    levels: Levels
    scale: Floats
    block: int = 0
    flag: NDArray[np.bool_] | None = None
    column: Floats | None = None
    salient: Salient | None = field(default=None)

    @property
    def plain(self) -> bool:
        """Whether it is planes of signs with scales of rows and columns, and nothing else."""
        return self.flag is None and self.salient is None and not self.book.shifted

    @cached_property
    def part(self) -> NDArray[np.intp]:
        """Which scales each column has. Shapes: (columns,)."""
        return parts_of(self.levels.shape[-1], self.block, self.flag)

    def floats(self) -> Floats:
        """What the bits stand for. Shapes: (groups, outputs, columns)."""
        wide = self.scale[..., self.part]
        found = np.zeros(self.levels.shape)
        for term, scale in zip(self.book.table.T, wide, strict=True):
            found += term[self.levels] * scale
        if self.column is not None:
            found *= self.column[:, None]
        if self.salient is not None:
            found = np.where(self.salient.mask, self.signs()[0] * self.salient.sizes(), found)
        return found

    def signs(self) -> NDArray[np.int8]:
        """Shapes: (planes, groups, outputs, columns)."""
        table = np.array(self.book.signs, np.int8)
        return np.stack([plane[self.levels] for plane in table.T])

    def plane_scales(self) -> tuple[Floats, Floats | None]:
        """Scales of the planes of signs, and what is added to them. Shapes: (planes, groups, outputs, parts)."""
        mixed = np.tensordot(self.book.mixing, self.scale, 1)
        return mixed[:-1], mixed[-1] if self.book.shifted else None

    def stored(self, *, half: bool = False) -> Code:
        """The same with scales as they are stored: in 32 bits, or in 16 where these are fine enough for every row."""
        salient = self.salient
        scales = [self.scale] if salient is None else [self.scale, salient.step[None, ..., None]]
        if self.column is not None:
            scales.append(self.column[None, None])
        kind = np.float16 if half and all(_fits_half(s) for s in scales) else np.float32
        return replace(
            self,
            scale=_as(kind, self.scale),
            column=None if self.column is None else _as(kind, self.column),
            salient=None if salient is None else replace(salient, step=_as(kind, salient.step)),
        )

    def at(self, levels: Levels, scale: Floats | None = None) -> Code:
        return replace(self, levels=levels, scale=self.scale if scale is None else scale)

    def rows(self, which: slice) -> Code:
        """Some of the outputs."""
        some, salient = self.at(self.levels[:, which], self.scale[:, :, which]), self.salient
        if salient is not None:
            mask, magnitude, step = salient.mask[:, which], salient.magnitude[:, which], salient.step[:, which]
            some = replace(some, salient=Salient(mask, magnitude, step))
        return some

    @classmethod
    def joined(cls, parts: Sequence[Code]) -> Code:
        """Codes of some outputs after the other as one, in files where they are large."""
        levels = spilled(np.concatenate([one.levels for one in parts], axis=1))
        scale = np.concatenate([one.scale for one in parts], axis=2)
        return replace(parts[0].at(levels, scale), salient=Salient.joined(parts))

    def nearest(self, values: Floats) -> Code:
        """Each weight becomes the nearest number; those in eight bits stay."""
        best = np.full(values.shape, np.inf)
        levels = np.zeros(values.shape, np.uint8)
        for number, terms in enumerate(self.book.table):
            near = np.tensordot(terms, self.scale, 1)[..., self.part]
            gap = np.abs((near if self.column is None else near * self.column[:, None]) - values)
            levels[gap < best] = number
            best = np.minimum(best, gap)
        return self.at(levels if self.salient is None else np.where(self.salient.mask, self.levels, levels))


def parts_of(columns: int, block: int, flag: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Sets of scales: one for each block, or two where columns are flagged. Shapes: (columns,)."""
    found = np.arange(columns) // (block or max(1, columns))
    return found if flag is None else 2 * found + flag


_LEAST_HALF = 2.0**-14
"""Smaller numbers of 16 bits have fewer digits."""


def _fits_half(scale: Floats) -> bool:
    """Shapes: (terms, groups, outputs, parts)."""
    size = np.abs(scale).max(axis=(0, 3), initial=0.0)
    return bool(((size == 0) | ((size >= _LEAST_HALF) & (size <= np.finfo(np.float16).max))).all())


def _as(kind: type[np.floating[Any]], values: Floats) -> Floats:
    return np.asarray(values.astype(kind), np.float64)
