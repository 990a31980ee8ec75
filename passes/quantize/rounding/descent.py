"""Coordinate descent: each integer in turn becomes the best one while all others stay, then the scales are solved anew.

With ``G = (Q - W) H``, a row's cost as a function of one weight is a parabola with its bottom at ``Q_j - G_j / H_jj``:
the grid's number nearest to it is the best. For given integers the cost is a parabola in the scales, too. Neither step
can raise it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...precision.grid import Floats, Quantized, spread
from ...rounding.columns import LAZY, move_columns
from ...rounding.problem import Problem
from ...rounding.steps import search_scales, single
from .gptq import successive
from .nearest import nearest
from .rounding import ROUNDERS

SWEEPS = 6
"""Over all columns; the last ones change little."""
_ENOUGH = 1e-3
"""A sweep that lowers the sum of costs by less than this fraction is the last."""


_SHRINK = 1e-6
"""A scale keeps its sign, and does not vanish."""


@ROUNDERS.register("descent")
def descent(problem: Problem) -> Quantized:
    """GPTQ, then coordinate descent on integers and scales in turn; no row is worse than by GPTQ, mse or nearest.

    Source: Frantar et al., arXiv:2210.17323, for the start; Behdin et al., "QuantEase: Optimization-based Quantization
    for Language Models", 2023, arXiv:2309.01885, for the descent. Differs: scales are solved exactly between sweeps.
    """
    steps = search_scales(problem)
    starts = [nearest(problem), steps.quantized(problem)]
    if problem.hessian is not None:
        starts.append(successive(problem, problem.hessian, steps))
    return descend(problem, cheapest_rows(problem, starts))


def cheapest_rows(problem: Problem, found: Sequence[Quantized]) -> Quantized:
    """Each row as it is cheapest, of equals the first."""
    which = np.argmin([problem.cost(q.floats()) for q in found], axis=0)[None, :, :, None]
    zeros = [np.zeros_like(q.scale) if q.zero is None else q.zero for q in found]
    integers, scale, zero = (
        np.take_along_axis(np.stack(parts), which, axis=0)[0]
        for parts in ([q.integers for q in found], [q.scale for q in found], zeros)
    )
    return Quantized(found[0].grid, integers, scale, zero if zero.any() else None, found[0].block)


def descend(problem: Problem, start: Quantized, sweeps: int = SWEEPS) -> Quantized:
    """Lower the cost of each row from where it is."""
    state = _State.of(problem, start)
    cost = state.cost().sum()
    for _ in range(sweeps):
        state.sweep()
        state.rescale()
        before, cost = cost, state.cost().sum()
        if cost >= before * (1 - _ENOUGH):
            break
    return state.quantized(start)


@dataclass
class _State:
    """Columns first, rows last, so that a column of all rows lies in one piece.

    ``codes`` are integers less their zero points, ``low`` and ``high`` their limits, ``gap`` is Q - W and ``slope``
    H (Q - W), ``ideal`` H W. Shapes: (groups, columns, outputs); scale (groups, blocks, outputs).
    """

    h: Floats
    wanted: Floats
    codes: Floats
    low: Floats
    high: Floats
    scale: Floats
    block: int
    ideal: Floats
    slope: Floats

    @classmethod
    def of(cls, problem: Problem, start: Quantized) -> _State:
        groups, _, columns = problem.wanted.shape
        h = problem.hessian
        if h is None:
            h = np.broadcast_to(np.eye(columns), (groups, columns, columns))
        zero = np.zeros_like(start.scale) if start.zero is None else start.zero
        wide = spread(zero, start.block, columns).transpose(0, 2, 1)
        codes = start.integers.transpose(0, 2, 1) - wide
        wanted = np.ascontiguousarray(problem.wanted.transpose(0, 2, 1))
        low, high = (
            v.transpose(0, 2, 1)
            for v in problem.kept(*(end - wide.transpose(0, 2, 1) for end in (problem.grid.low, problem.grid.high)))
        )
        state = cls(h, wanted, codes, low, high, start.scale.transpose(0, 2, 1).copy(), start.block, wanted, wanted)
        state.ideal = h @ wanted
        state.slope = h @ state.gap
        return state

    def wide(self, start: int = 0, stop: int | None = None) -> Floats:
        """The scale of each of some columns."""
        columns = np.arange(self.codes.shape[1])[start:stop]
        return np.asarray(self.scale[:, columns // self.block if self.block else columns * 0])

    @property
    def gap(self) -> Floats:
        return np.asarray(self.codes * self.wide() - self.wanted)

    def cost(self) -> Floats:
        """Shapes: (groups, outputs)."""
        return np.einsum("gco,gco->go", self.gap, self.slope)

    def sweep(self) -> None:
        """Over all columns once, and over the scales of whole blocks on the way."""
        columns = self.codes.shape[1]
        width = self.block * max(1, LAZY // self.block) if self.block else LAZY
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            moved = self._columns(start, stop)
            if self.block and self.block < columns:
                self._blocks(start, stop, moved)
            if moved.any():
                self.slope += self.h[:, :, start:stop] @ moved

    def _columns(self, start: int, stop: int) -> Floats:
        """Choose the integers of some columns anew; the slope stays as it was, how weights moved is told."""
        scale = np.ascontiguousarray(self.wide(start, stop))

        def choose(j: int, above: Floats) -> Floats:
            own, old = scale[:, j - start], self.codes[:, j].copy()
            self.codes[:, j] = np.clip(np.rint(old - above / own), self.low[:, j], self.high[:, j])
            return np.asarray((self.codes[:, j] - old) * own)

        return move_columns(self.h, self.slope, start, stop, choose)

    def _blocks(self, start: int, stop: int, moved: Floats) -> None:
        """Choose the scales of the blocks among some columns anew, one after the other, all others as they are."""
        for at in range(start, stop, self.block):
            here, b = slice(at, min(at + self.block, stop)), at // self.block
            codes = self.codes[:, here]
            slope = self.slope[:, here] + self.h[:, here, start:stop] @ moved
            curve = np.einsum("gco,gco->go", self.h[:, here, here] @ codes, codes)
            good = curve > 0
            change = np.einsum("gco,gco->go", slope, codes) / np.where(good, curve, 1.0)
            old = self.scale[:, b]
            new = single(old - change)
            new = np.where(good & (new / old > _SHRINK), new, old)
            moved[:, at - start : here.stop - start] += codes * (new - old)[:, None]
            self.scale[:, b] = new

    def rescale(self) -> None:
        """Solve ``s = q H w / q H q`` where a row has one scale; rows that it does not help keep theirs."""
        if self.scale.shape[1] != 1:
            return
        product = self.slope + self.ideal  # H times what the integers stand for
        above = np.einsum("gco,gco->go", self.ideal, self.codes)
        below = np.einsum("gco,gco->go", product, self.codes) / self.scale[:, 0]
        found = above / np.where(below > 0, below, 1.0)
        good = (below > 0) & (found / self.scale[:, 0] > _SHRINK)
        new = single(np.where(good, found, self.scale[:, 0]))
        slope = product * (new / self.scale[:, 0])[:, None] - self.ideal
        cost = np.einsum("gco,gco->go", self.codes * new[:, None] - self.wanted, slope)
        wins = (good & (cost < self.cost()))[:, None]
        self.scale = np.where(wins, new[:, None], self.scale)
        self.slope = np.where(wins, slope, self.slope)

    def quantized(self, start: Quantized) -> Quantized:
        zero = 0.0 if start.zero is None else spread(start.zero, start.block, self.codes.shape[1])
        integers = np.rint(self.codes.transpose(0, 2, 1) + zero).astype(start.grid.narrow_type)
        return Quantized(start.grid, integers, self.scale.transpose(0, 2, 1), start.zero, start.block)
