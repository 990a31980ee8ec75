"""What a layer sees and what it should make of it, over calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...graph.layer import Floats
from ..calibration.moments import Moments
from ..calibration.reconstruct import damped_hessian, ridge

LARGEST = 8192
"""Columns up to which second moments are taken: these are square matrices."""
STRENGTH = 1e-4
"""Pull towards the old weights: low rank is restraint enough."""
NOISE_STRENGTH = 0.1
"""The same where statistics are those of noise."""


@dataclass(frozen=True)
class Wanted:
    """What a layer should be, were it not for the rank. Shapes: (groups, outputs, columns), (groups, columns, columns).

    ``scale`` is the variance of what it should make; with ``centred`` its bias takes the means.
    """

    weight: Floats
    moments: Floats
    mean: Floats
    target_mean: Floats
    scale: float
    centred: bool

    @classmethod
    def of(cls, moments: Moments, old: Floats, *, centred: bool, strength: float = STRENGTH) -> Wanted:
        fit = ridge(moments, old, centred=centred, strength=strength)
        damped = damped_hessian(moments, strength, centred=centred, least=1e-12)
        scale = max(float(moments.target_variance.sum()), 1e-30)
        return cls(fit.weight, damped, moments.mean, moments.target_mean, scale, centred)

    def offset(self, weight: Floats) -> Floats:
        """The bias that makes means right with this weight. Shapes: (groups, outputs)."""
        return np.asarray(self.target_mean - np.einsum("goc,gc->go", weight, self.mean))

    def loss(self, weight: Floats) -> float:
        """What this weight adds to the squared error, relative to the variance of what is wanted."""
        error = weight - self.weight
        return float(np.einsum("goc,goc->", np.matmul(error, self.moments), error)) / self.scale
