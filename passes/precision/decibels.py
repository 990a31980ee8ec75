"""Signal to quantization noise: how much larger values are than what their approximation is off by."""

from __future__ import annotations

import numpy as np

EXACT = 300.0
"""Decibels of what is not off at all: more than float64 can tell apart."""


def sqnr_db(values: np.ndarray, approximation: np.ndarray) -> float:
    """10 log10 of the squares' sums; minus infinity where anything is not finite. Units: decibels."""
    exact, near = values.astype(np.float64), approximation.astype(np.float64)
    if not np.isfinite(near).all():
        return -np.inf
    signal, noise = float(np.square(exact).sum()), float(np.square(exact - near).sum())
    if noise == 0:
        return EXACT
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -EXACT, EXACT))
