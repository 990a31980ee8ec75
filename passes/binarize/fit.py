"""Scales of least squared error for given numbers, and the nearest numbers for given scales, in turn."""

from __future__ import annotations

import numpy as np

from ..calibration.layers import Floats
from .codes import Code

ROUNDS = 20
_ENOUGH = 1e-5
"""A round that lowers the error by less than this fraction is the last."""
_FLAT = 1e-10
"""Terms that are so nearly the same in a block, relative to their size, share what they stand for."""


def alternated(wanted: Floats, start: Code, rounds: int = ROUNDS) -> Code:
    """Each step is the best there is, so that no round can be worse than the one before."""
    code, error = start, np.inf
    for _ in range(rounds):
        code = rescaled(wanted, code.nearest(wanted))
        before, error = error, float(np.square(code.floats() - wanted).sum())
        if error >= before * (1 - _ENOUGH):
            break
    return code


def rescaled(wanted: Floats, code: Code) -> Code:
    """Least squares of every row's every set of scales; weights in eight bits do not count."""
    basis = code.book.table.T[:, code.levels]  # (terms, groups, outputs, columns)
    if code.column is not None:
        basis = basis * code.column[:, None]
    if code.salient is not None:
        basis = np.where(code.salient.mask, 0.0, basis)
    member = (code.part[:, None] == np.arange(code.scale.shape[-1])).astype(np.float64)
    normal = np.einsum("tgoc,sgoc,cp->gopts", basis, basis, member, optimize=True)
    right = np.einsum("tgoc,goc,cp->gopt", basis, wanted, member, optimize=True)
    return code.at(code.levels, np.moveaxis(least_squares(normal, right), -1, 0))


def least_squares(normal: Floats, right: Floats) -> Floats:
    """The smallest of the best answers to small systems. Shapes: (..., terms, terms), (..., terms) -> (..., terms)."""
    return np.asarray((np.linalg.pinv(normal, rcond=_FLAT, hermitian=True) @ right[..., None])[..., 0])
