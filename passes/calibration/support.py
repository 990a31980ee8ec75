"""Least squares where some weights must stay nought: each row on its own support."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from ...graph.layer import Floats

_EXACT = 2e11
"""Operations spent on rows of a layer that are solved one by one; what is more goes by conjugate gradients."""
_STEPS = 64
_ENOUGH = 1e-10
"""Of the first residual's squares."""


def positive(hessian: Floats) -> Floats:
    """The same, inputs that are always nought counting all alike. Shapes: (groups, columns, columns)."""
    silent = np.einsum("gcc->g", hessian) <= 0
    return hessian + silent[:, None, None] * np.eye(hessian.shape[-1]) if silent.any() else hessian


def on_support(wanted: Floats, hessian: Floats, support: NDArray[np.bool_]) -> Floats:
    """The matrices V that are nought off their support and whose ``(V - W) H (V - W)ᵀ`` is least.

    With ``W`` the least squares solution that was pulled to old weights, and H raised by that pull, these are the least
    squares weights on the support with the same pull. Shapes: wanted and support (groups, outputs, columns), hessian
    (groups, columns, columns), positive definite.
    """
    found = np.zeros(wanted.shape)
    for g, (h, rows) in enumerate(zip(hessian, support, strict=True)):
        right = wanted[g] @ h
        kinds, kind = np.unique(rows, axis=0, return_inverse=True)
        alike = [np.nonzero(kind.reshape(-1) == k)[0] for k in range(len(kinds))]
        if float((kinds.sum(axis=1, dtype=np.float64) ** 3).sum()) / 3 > _EXACT:
            found[g] = _descended(np.where(rows, wanted[g], 0.0), h, right, rows)
            continue
        for own, members in zip(kinds, alike, strict=True):
            (kept,) = np.nonzero(own)
            if len(kept):
                factor = scipy.linalg.cho_factor(h[np.ix_(kept, kept)], lower=True, overwrite_a=True)
                found[g][np.ix_(members, kept)] = scipy.linalg.cho_solve(factor, right[np.ix_(members, kept)].T).T
    return found


def _descended(start: Floats, h: Floats, right: Floats, rows: NDArray[np.bool_]) -> Floats:
    """Conjugate gradients of all rows at once, scaled by the diagonal. Shapes: h (columns, columns), others (outputs, columns)."""
    scale = np.where(rows, 1.0 / np.diag(h), 0.0)
    found, gap = start.copy(), np.where(rows, right - start @ h, 0.0)
    step = scale * gap
    power = np.einsum("oc,oc->o", gap, step)
    first = power.max(initial=0.0)
    for _ in range(_STEPS):
        if power.max(initial=0.0) <= _ENOUGH * first:
            break
        moved = np.where(rows, step @ h, 0.0)
        curve = np.einsum("oc,oc->o", step, moved)
        length = (power / np.where(curve > 0, curve, np.inf))[:, None]
        found += length * step
        gap -= length * moved
        before, scaled = power, scale * gap
        power = np.einsum("oc,oc->o", gap, scaled)
        step = scaled + (power / np.where(before > 0, before, np.inf))[:, None] * step
    return found
