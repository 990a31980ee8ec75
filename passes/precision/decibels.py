"""Signal to quantization noise: how much larger values are than what their approximation is off by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...graph.io.spill import slices_of

EXACT = 300.0
"""Decibels of what is not off at all: more than float64 can tell apart."""


@dataclass
class Noise:
    """Power of finite values and of what approximations of them are off by, summed over batches."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact: np.ndarray, near: np.ndarray) -> None:
        known = np.isfinite(exact)
        x, y = (one.reshape(-1) if known.all() else one[known] for one in (exact, near))
        x = x.astype(np.float64)
        gap = y.astype(np.float64) - x
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(gap).sum()) if np.isfinite(gap).all() else np.inf

    @property
    def decibels(self) -> float:
        """10 log10 of signal to noise."""
        if self.noise == 0 or not np.isfinite(self.noise):
            return EXACT if self.noise == 0 else -EXACT
        return float(np.clip(10 * np.log10(max(self.signal, 1e-300) / self.noise), -EXACT, EXACT))


def sqnr_db(values: np.ndarray, approximation: np.ndarray) -> float:
    """Of one tensor; minus infinity where the approximation is not finite. Units: decibels."""
    found, finite = Noise(), True
    for exact, near in zip(slices_of(values), slices_of(approximation), strict=True):
        found.add(exact, near)
        finite = finite and bool(np.isfinite(near.astype(np.float64)).all())
    return found.decibels if finite else -np.inf
