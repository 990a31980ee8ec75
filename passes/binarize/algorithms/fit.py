"""Scales of least squared error for given numbers, and the nearest numbers for given scales, in turn."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from .codes import Code

ROUNDS = 20
_ENOUGH = 1e-4
"""A round that lowers the error by less than this fraction is the last."""
_AT_ONCE = 1 << 20
"""Weights."""
_FLAT = 1e-10
"""Terms that are so nearly the same in a block, relative to their size, share what they stand for."""


def alternate_fit(wanted: Floats, start: Code, rounds: int = ROUNDS) -> Code:
    """Each step is the best there is, so that no round can be worse than the one before.

    Rows do not depend on each other: few at once, so that memory is bounded.
    """
    few = max(1, _AT_ONCE // max(1, wanted.shape[0] * wanted.shape[2]))
    parts = [slice(at, at + few) for at in range(0, wanted.shape[1], few)]
    found = [_alternated(wanted[:, rows], start.rows(rows), rounds) for rows in parts]
    levels = np.concatenate([one.levels for one in found], axis=1)
    return start.at(levels, np.concatenate([one.scale for one in found], axis=2))


def _alternated(wanted: Floats, start: Code, rounds: int) -> Code:
    code, error = start, np.inf
    for _ in range(rounds):
        code = rescale_rows(wanted, code.nearest(wanted))
        before, error = error, float(np.square(code.floats() - wanted).sum())
        if error >= before * (1 - _ENOUGH):
            break
    return code


def rescale_rows(wanted: Floats, code: Code) -> Code:
    """Least squares of every row's every set of scales."""
    basis = [term[code.levels] for term in code.book.table.T]  # each (groups, outputs, columns)
    if code.column is not None:
        basis = [one * code.column[:, None] for one in basis]
    member = (code.part[:, None] == np.arange(code.scale.shape[-1])).astype(np.float64)
    normal = np.stack([np.stack([(one * other) @ member for other in basis], axis=-1) for one in basis], axis=-1)
    right = np.stack([(one * wanted) @ member for one in basis], axis=-1)
    return code.at(code.levels, np.moveaxis(least_squares(normal, right), -1, 0))


def least_squares(normal: Floats, right: Floats) -> Floats:
    """The smallest of the best answers to small systems. Shapes: (..., terms, terms), (..., terms) -> (..., terms)."""
    return np.asarray((np.linalg.pinv(normal, rcond=_FLAT, hermitian=True) @ right[..., None])[..., 0])
