"""Numbers and scales of least cost on calibration data: compensation column by column, then coordinate descent.

With ``G = (Q - W) H`` a row's cost as a function of one weight is a parabola with its bottom at ``Q_j - G_j / H_jj``: the
nearest of the row's numbers is the best. For given numbers the cost is a parabola in the scales of a block. Neither step
can raise it.

Source: Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, for the compensation; Behdin et al., "QuantEase", 2023,
arXiv:2309.01885, for the descent. Differs: numbers that are sums of scales take the place of a grid, and all scales of
a block are solved for at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ....graph.layer import Floats
from ...rounding.columns import LAZY, choose_columns, move_columns
from .binarizer import Problem
from .codes import Code, Levels
from .fit import least_squares

SWEEPS = 8
"""Over all columns; the last ones change little."""
_ENOUGH = 1e-3
"""A sweep that lowers the sum of costs by less than this fraction is the last."""


def fit_code(problem: Problem, *starts: Code) -> Code:
    """The first start without data; with data the best that compensation and descent make of all of them."""
    if problem.hessian is None:
        return starts[0]
    found = [one for start in starts for one in (start, compensate_columns(problem, start))]
    return cheapest_rows(problem, [*(descend(problem, one) for one in found), *found])


def compensate_columns(problem: Problem, code: Code) -> Code:
    """Columns become numbers one after the other, those still to come make up for what went wrong."""
    assert problem.hessian is not None
    groups = np.arange(len(problem.wanted))
    salient = code.salient
    levels = code.levels.transpose(0, 2, 1).copy()
    magnitude = None if salient is None else salient.magnitude.transpose(0, 2, 1).copy()
    scale = np.moveaxis(code.scale, (0, 1), (1, 0))  # groups first

    def choose(columns: NDArray[np.intp], target: Floats) -> Floats:
        numbers = np.stack([code.book.table @ s[..., p] for s, p in zip(scale, code.part[columns], strict=True)], 1)
        if code.column is not None:
            numbers *= code.column[groups, columns][:, None]
        chosen = np.abs(numbers - target).argmin(axis=0)
        value = np.take_along_axis(numbers, chosen[None], axis=0)[0]
        if salient is not None and magnitude is not None:
            mask, step = salient.mask[groups, :, columns], salient.step
            size = np.clip(np.rint(np.abs(target) / np.where(step > 0, step, 1.0)), 0, 255)
            chosen = np.where(mask, code.book.of_sign(target), chosen)
            magnitude[groups, columns] = np.where(mask, size, 0).astype(np.uint8)
            value = np.where(mask, np.where(target < 0, -1, 1) * size * step, value)
        levels[groups, columns] = chosen
        return np.asarray(value)

    choose_columns(problem.wanted, problem.hessian, choose)
    found = code.at(levels.transpose(0, 2, 1))
    if salient is None or magnitude is None:
        return found
    return replace(found, salient=replace(salient, magnitude=magnitude.transpose(0, 2, 1)))


def cheapest_rows(problem: Problem, found: Sequence[Code]) -> Code:
    """Each row as it is cheapest, of equals the first; all codes have the same blocks and the same flags."""
    which = np.argmin([problem.cost(one.floats()) for one in found], axis=0)[None, :, :, None]

    def rows(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.take_along_axis(np.stack(parts), which, axis=0)[0]

    scale = np.stack([rows([one.scale[t] for one in found]) for t in range(found[0].book.terms)])
    best = found[0].at(rows([one.levels for one in found]), scale)
    if any(one.salient is None for one in found):
        return best
    salient = [one.salient for one in found if one.salient is not None]
    mask, magnitude = rows([s.mask for s in salient]), rows([s.magnitude for s in salient])
    step = rows([s.step[..., None] for s in salient])[..., 0]
    return replace(best, salient=replace(salient[0], mask=mask, magnitude=magnitude, step=step))


def descend(problem: Problem, start: Code, sweeps: int = SWEEPS) -> Code:
    """Lower the cost of each row from where it is. Weights in eight bits stay as they are."""
    state = _State.of(problem, start)
    cost = state.cost()
    for _ in range(sweeps):
        state.sweep()
        state.rescale()
        before, cost = cost, state.cost()
        if cost >= before * (1 - _ENOUGH):
            break
    return start.at(state.levels.transpose(0, 2, 1), state.scale.transpose(0, 1, 3, 2))


@dataclass
class _State:
    """Columns before rows, so that a column of all rows lies in one piece.

    ``values`` are what levels and scales stand for, ``slope`` is H (Q - W). Shapes: (groups, columns, outputs); scale
    (terms, groups, parts, outputs).
    """

    code: Code
    h: Floats
    wanted: Floats
    levels: Levels
    values: Floats
    scale: Floats
    slope: Floats
    free: NDArray[np.bool_] | None

    @classmethod
    def of(cls, problem: Problem, start: Code) -> _State:
        h = problem.hessian
        assert h is not None
        wanted, values = (np.ascontiguousarray(v.transpose(0, 2, 1)) for v in (problem.wanted, start.floats()))
        levels = np.ascontiguousarray(start.levels.transpose(0, 2, 1))
        scale = np.ascontiguousarray(start.scale.transpose(0, 1, 3, 2))
        free = None if start.salient is None else np.ascontiguousarray(~start.salient.mask.transpose(0, 2, 1))
        return cls(start, h, wanted, levels, values, scale, h @ (values - wanted), free)

    def cost(self) -> float:
        return float(np.sum((self.values - self.wanted) * self.slope))

    def sweep(self) -> None:
        """Choose the numbers of all columns anew, once."""
        columns = self.levels.shape[1]
        for start in range(0, columns, LAZY):
            stop = min(start + LAZY, columns)
            moved = move_columns(self.h, self.slope, start, stop, self._choose)
            if moved.any():
                self.slope += self.h[:, :, start:stop] @ moved

    def _choose(self, j: int, above: Floats) -> Floats:
        """The nearest numbers in one column; how far they moved."""
        numbers = np.tensordot(self.code.book.table, self.scale[:, :, self.code.part[j]], 1)
        if self.code.column is not None:
            numbers *= self.code.column[:, j, None]
        chosen = np.abs(numbers - (self.values[:, j] - above)).argmin(axis=0)
        value = np.take_along_axis(numbers, chosen[None], axis=0)[0]
        if self.free is not None:
            chosen = np.where(self.free[:, j], chosen, self.levels[:, j])
            value = np.where(self.free[:, j], value, self.values[:, j])
        moved = value - self.values[:, j]
        self.levels[:, j], self.values[:, j] = chosen, value
        return np.asarray(moved)

    def rescale(self) -> None:
        """Solve for the scales of one set of columns after the other, all others as they are."""
        table, part = self.code.book.table, self.code.part
        for p in range(self.scale.shape[2]):
            columns = np.flatnonzero(part == p)
            basis = table.T[:, self.levels[:, columns]]  # (terms, groups, columns, outputs)
            if self.code.column is not None:
                basis = basis * self.code.column[:, columns, None]
            if self.free is not None:
                basis = np.where(self.free[:, columns], basis, 0.0)
            curved = self.h[:, columns[:, None], columns] @ basis
            normal = np.einsum("tgco,sgco->gots", basis, curved)
            right = -np.einsum("tgco,gco->got", basis, self.slope[:, columns])
            change = np.moveaxis(least_squares(normal, right), -1, 0)
            moved = np.einsum("tgco,tgo->gco", basis, change)
            self.scale[:, :, p] += change
            self.values[:, columns] += moved
            self.slope += self.h[:, :, columns] @ moved
