"""Weights that are signs: rows of +1 and -1 (and 0) times one number each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....kernels.packing import pack

_NEAR = 1e-5
"""Relative distance up to which magnitudes count as equal: signs computed for training lose a last bit."""
SHORTEST = 8
"""Weights in a row from which on equal magnitudes mean something; one weight is always a sign times a number."""


@dataclass(frozen=True)
class Signs:
    """Shapes: signs int8 (rows, K) of -1, 0, +1; scale float64 (rows,)."""

    signs: np.ndarray
    scale: np.ndarray

    @property
    def ternary(self) -> bool:
        return bool((self.signs == 0).any())

    @property
    def planes(self) -> np.ndarray:
        """Bits whose mean is the signs: one plane, or two where some are 0. Shapes: uint8 (P, rows, ceil(K / 8))."""
        if not self.ternary:
            return pack(self.signs)[None]
        return np.stack([pack(self.signs), pack(self.signs - (self.signs == 0))])


def signs_of(matrix: np.ndarray) -> Signs | str:
    """Rows of a matrix as signs times scales, or why they are none.

    Shapes: matrix (rows, K).
    """
    if matrix.dtype.kind != "f":
        return f"its weights are {matrix.dtype}"
    if matrix.ndim != 2 or matrix.shape[1] < SHORTEST:
        return f"its rows have fewer than {SHORTEST} weights"
    if len(matrix) > 1:  # a large matrix of other numbers is not looked at as a whole
        first = signs_of(matrix[:1])
        if isinstance(first, str):
            return first
    size = np.abs(matrix.astype(np.float64))
    largest = size.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        return "its weights are not finite"
    full, zero = size >= largest * (1 - _NEAR), size <= largest * _NEAR
    if not (full | zero).all():
        return "its weights are no signs"
    count = full.sum(axis=1)
    scale = np.where(largest[:, 0] > 0, (size * full).sum(axis=1) / count, 0.0)
    exact = (np.where(full, size, largest) == largest).all(axis=1)
    scale = np.where(exact, largest[:, 0], scale)
    signs = np.where(zero & (largest > 0), 0, np.where(matrix < 0, -1, 1)).astype(np.int8)
    return Signs(signs, scale)
