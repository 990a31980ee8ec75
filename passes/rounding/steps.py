"""Scales and zero points of a weight: so wide that nothing is cut off, or searched for the least squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..precision.grid import Floats, Grid, Quantized, covering_scale, least_scale, spread
from .problem import Problem

_COARSE = np.linspace(0.16, 1.06, 31).round(2)
"""Parts of the covering scale that are tried: heavy tails need a fifth of it at two bits, even rows all of it."""
_FINE = np.linspace(-1.0, 1.0, 9)
"""Tried around the best of those, in units of their distance."""
_SOLVED = 2
"""Times that the scale is then solved for, which moves it less than a step of the search."""
_CHUNK = 1 << 16
"""Weights that are searched at once: so few that they stay in the processor's cache."""


@dataclass(frozen=True)
class Steps:
    """Shapes: scale and zero (groups, outputs, blocks)."""

    scale: Floats
    zero: Floats

    def quantized(self, problem: Problem) -> Quantized:
        """The nearest integers."""
        scale, zero = (spread(v, problem.block, problem.wanted.shape[-1]) for v in (self.scale, self.zero))
        return self.of(problem, problem.grid.round(problem.wanted, scale, zero))

    def of(self, problem: Problem, integers: Floats) -> Quantized:
        zero = self.zero if self.zero.any() else None
        return Quantized(problem.grid, integers.astype(problem.grid.narrow_type), self.scale, zero, problem.block)


def single(scale: Floats) -> Floats:
    """As it is stored: in single precision."""
    size = least_scale(np.abs(scale))
    return np.where(scale < 0, -size, size).astype(np.float32).astype(np.float64)


def cover_range(problem: Problem) -> Steps:
    """The smallest positive scales with which no weight is cut off, nought always among the numbers."""
    blocks = _blocked(problem.wanted, problem.block)
    scale, zero = _covering(blocks.max(axis=-1), blocks.min(axis=-1), problem.grid, problem.symmetric)
    return Steps(scale, zero)


def search_scales(problem: Problem) -> Steps:
    """The scales of least squared error after rounding, each column counted as its diagonal entry of H.

    A grid with one more number below nought than above fits some rows better upside down: both signs are tried, but for
    eight bits, where it makes no difference and integer kernels may not expect it.
    """
    groups, outputs, _ = problem.wanted.shape
    blocks = _blocked(problem.wanted, problem.block)
    count, width = blocks.shape[2:]
    rows = blocks.reshape(-1, width)
    weight = np.broadcast_to(_blocked(_column_weights(problem), problem.block), blocks.shape).reshape(-1, width)
    scale, zero = np.empty(len(rows)), np.empty(len(rows))
    size = max(1, _CHUNK // max(1, width))
    for at in range(0, len(rows), size):
        part = slice(at, at + size)
        scale[part], zero[part] = _search(rows[part], weight[part], problem.grid, problem.symmetric)
    shape = (groups, outputs, count)
    return Steps(scale.reshape(shape), zero.reshape(shape))


def _column_weights(problem: Problem) -> Floats:
    """Shapes: (groups, 1, columns). Columns without any variance count a little, so that they do not run wild."""
    groups, _, columns = problem.wanted.shape
    if problem.hessian is None:
        return np.ones((groups, 1, columns))
    diagonal = np.maximum(np.einsum("gcc->gc", problem.hessian), 0.0)
    mean = diagonal.mean(axis=1, keepdims=True) if columns else diagonal
    return np.asarray(np.where(mean > 0, diagonal / np.where(mean > 0, mean, 1.0) + 1e-6, 1.0))[:, None]


def _blocked(values: Floats, block: int) -> Floats:
    """Noughts fill the last block. Shapes: (..., columns) -> (..., blocks, width)."""
    columns = values.shape[-1]
    width = block or max(1, columns)
    missing = -columns % width
    if missing:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], missing))], axis=-1)
    return values.reshape(*values.shape[:-1], -1, width)


def _covering(high: Floats, low: Floats, grid: Grid, symmetric: bool) -> tuple[Floats, Floats]:
    high, low = np.maximum(high, 0.0), np.minimum(low, 0.0)
    if symmetric:
        middle = grid.middle
        below = max(middle - grid.low, 1)
        scale = single(covering_scale(np.maximum(high / (grid.high - middle), -low / below)))
        return scale, np.full(scale.shape, float(middle))
    scale = single(covering_scale((high - low) / (grid.high - grid.low)))
    return scale, np.clip(np.rint(grid.low - low / scale), grid.low, grid.high)


def _search(rows: Floats, weight: Floats, grid: Grid, symmetric: bool) -> tuple[Floats, Floats]:
    """Shapes: rows and weight (rows, width) -> (rows,) each."""
    found = _Search(rows, weight, grid, symmetric)
    lopsided = symmetric and grid.bits < 8 and grid.high - grid.middle != grid.middle - grid.low
    for sign in (1.0, -1.0) if lopsided else (1.0,):
        for part in _COARSE:
            found.cover(part, sign)
    signs, around = np.sign(found.part), np.abs(found.part)  # before the finer steps change it
    for offset in _FINE * (_COARSE[1] - _COARSE[0]):
        if offset:
            found.cover(around + offset, signs)
    for _ in range(_SOLVED):
        found.solve()
    return found.scale, found.zero


class _Search:
    """Of the scales that were tried, the best of each row: its error, zero point and part of the covering scale."""

    def __init__(self, rows: Floats, weight: Floats, grid: Grid, symmetric: bool) -> None:
        self.rows, self.weight, self.grid, self.symmetric = rows, weight, grid, symmetric
        self.high, self.low, count = rows.max(axis=-1), rows.min(axis=-1), len(rows)
        self.error, self.scale, self.zero, self.part = (
            np.full(count, np.inf),
            np.ones(count),
            np.zeros(count),
            np.ones(count),
        )

    def cover(self, part: Floats | float, sign: Floats | float) -> None:
        """Try a part of the scale that covers each row, or each row upside down."""
        top, bottom = np.where(sign > 0, self.high, -self.low), np.where(sign > 0, self.low, -self.high)
        scale, zero = _covering(part * top, part * bottom, self.grid, self.symmetric)
        self._keep(scale * sign, zero, part * sign)

    def solve(self) -> None:
        """Try the scales of least error for the integers as they are."""
        codes = self.grid.round(self.rows, self.scale[:, None], self.zero[:, None]) - self.zero[:, None]
        below = np.einsum("rw,rw,rw->r", codes, codes, self.weight)
        above = np.einsum("rw,rw,rw->r", codes, self.rows, self.weight)
        found = single(above / np.where(below > 0, below, 1.0))
        self._keep(np.where((below > 0) & (found / self.scale > 0), found, self.scale), self.zero, self.part)

    def _keep(self, scale: Floats, zero: Floats, part: Floats | float) -> None:
        step, shift = scale[:, None], zero[:, None]
        codes = self.rows / step
        np.rint(codes, out=codes)
        np.clip(codes, self.grid.low - shift, self.grid.high - shift, out=codes)
        codes *= step
        codes -= self.rows
        error = np.einsum("rw,rw,rw->r", codes, codes, self.weight)
        wins = error < self.error
        for name, new in (("error", error), ("scale", scale), ("zero", zero), ("part", part)):
            setattr(self, name, np.where(wins, new, getattr(self, name)))
