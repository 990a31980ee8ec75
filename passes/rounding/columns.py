"""Columns that are rounded one after the other, those still to come making up for what went wrong.

The cost of a row is ``|(q - w) R|²`` with ``H = R Rᵀ``. If R is upper triangular, term j of that vector only depends on
the first j columns: rounding ``w_j + sum_i<j (w_i - q_i) R_ij / R_jj`` makes it as small as the grid allows. That is
what GPTQ computes by updates with the inverse of H, in exact arithmetic; no inverse is needed this way.

Source: Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..precision.grid import Floats

DAMP = 0.01
"""Added to the diagonal of H, relative to its mean: the paper's value."""
LAZY = 128
"""Columns that are rounded before what they leave goes to all others, as in the paper."""

Choose = Callable[[NDArray[np.intp], Floats], Floats]
"""Of one column of each group, and what its weights should best be, what they become. Shapes: (groups,), (groups,
outputs) -> (groups, outputs)."""


def choose_columns(wanted: Floats, hessian: Floats, choose: Choose, damp: float = DAMP) -> None:
    """Ask for one column after the other, largest inputs first; later ones are told what makes up for earlier ones.

    Shapes: wanted (groups, outputs, columns), hessian (groups, columns, columns).
    """
    order, pull = _pulls.of(hessian, damp)
    wanted = np.take_along_axis(wanted.transpose(0, 2, 1), order[:, :, None], axis=1)
    columns = wanted.shape[1]
    gap = np.empty_like(wanted)
    for start in range(0, columns, LAZY):
        stop = min(start + LAZY, columns)
        aim = wanted[:, start:stop] + pull[:, start:stop, :start] @ gap[:, :start]
        for j in range(start, stop):
            target = aim[:, j - start] + (pull[:, j : j + 1, start:j] @ gap[:, start:j])[:, 0]
            gap[:, j] = wanted[:, j] - choose(order[:, j], target)


def move_columns(
    hessian: Floats, slope: Floats, start: int, stop: int, choose: Callable[[int, Floats], Floats]
) -> Floats:
    """How columns move when one after the other is chosen anew, told how far up from the bottom of its parabola it is.

    ``slope`` is ``H (Q - W)`` before. Shapes: slope (groups, columns, outputs) -> (groups, stop - start, outputs).
    """
    moved = np.zeros((len(hessian), stop - start, slope.shape[2]))
    for k, j in enumerate(range(start, stop)):
        curve = hessian[:, j, j, None]
        if curve.any():
            here = slope[:, j] + (hessian[:, j : j + 1, start:j] @ moved[:, :k])[:, 0]
            moved[:, k] = choose(j, here / np.where(curve > 0, curve, np.inf))
    return moved


class _Pulls(threading.local):
    """What the latest moments come to: a layer is often rounded to several numbers of bits, one after the other."""

    known: tuple[Any, float, NDArray[np.intp], Floats] | None = None

    def of(self, hessian: Floats, damp: float) -> tuple[NDArray[np.intp], Floats]:
        """The order of the columns, and ``R_ij / R_jj`` at [j, i] of columns in that order."""
        if self.known is None or self.known[0]() is not hessian or self.known[1] != damp:
            order = np.argsort(-np.einsum("gcc->gc", hessian), axis=1, kind="stable")
            self.known = weakref.ref(hessian), damp, order, _pull(hessian, order, damp)
        return self.known[2], self.known[3]


_pulls = _Pulls()


def _pull(hessian: Floats, order: NDArray[np.intp], damp: float) -> Floats:
    backwards = order[:, ::-1]
    turned = np.take_along_axis(hessian, backwards[:, :, None], axis=1)
    turned = np.take_along_axis(turned, backwards[:, None, :], axis=2)
    columns = np.arange(hessian.shape[1])
    mean = hessian[:, columns, columns].sum(axis=1) / max(1, len(columns))
    turned[:, columns, columns] += np.where(mean > 0, damp * mean, 1.0)[:, None]
    lower = np.linalg.cholesky(turned)[:, ::-1, ::-1]  # upper, in fact, now that it is turned round
    return np.asarray((lower / np.einsum("gcc->gc", lower)[:, None]).transpose(0, 2, 1))
