"""Net-Trim: the smallest sum of absolute weights with which the layer gives nearly what it gave."""

from __future__ import annotations

import numpy as np
import scipy
from pydantic import BaseModel, Field

from ....graph.layer import Floats
from ...calibration.support import on_support
from ...needs import SECOND_MOMENTS
from ..method import METHODS, Method, Problem

_STEPS = 300


class NetTrim(BaseModel):
    """Options of ``nettrim``."""

    tolerance: float = Field(
        default=0.05, gt=0, lt=1, description="largest error of a layer, relative to what it gives"
    )


def nettrim(problem: Problem, options: NetTrim) -> Floats:
    """The least sum of sizes of weights within a tolerance of the layer's outputs; it finds its density. Needs data.

    Source: Aghasi et al., "Net-Trim: Convex Pruning of Deep Neural Networks with Performance Guarantee", NeurIPS 2017,
    arXiv:1611.05162, by alternating directions with one Cholesky factor. Differs: the error is taken from second moments,
    where what a rectifier cuts off counts as right in the refit before; what stays is fitted, and so fewer
    weights stay within the tolerance.
    """
    found = np.zeros(problem.wanted.shape)
    for g, (wanted, h) in enumerate(zip(problem.wanted, problem.known, strict=True)):
        root = np.linalg.cholesky(h)
        allowed = options.tolerance * float(np.linalg.norm(wanted @ root))
        sparse = _least(wanted, root, allowed) if allowed > 0 else wanted
        found[g] = _within(wanted, h, root, sparse, allowed)
    return found


METHODS.register("nettrim", options=NetTrim, needs=(SECOND_MOMENTS,))(Method(nettrim, own=True))


def _least(wanted: Floats, root: Floats, allowed: float) -> Floats:
    """Alternating directions for: least sum of \\|Z\\| with ``|(Z - W) R| <= allowed``. Shapes: wanted (outputs, columns)."""
    aim = wanted @ root
    size = float(np.abs(wanted).mean()) or 1.0
    gain = float(np.sqrt(np.mean(np.square(root).sum(axis=1)))) or 1.0
    scaled, aim, allowed = root / gain, aim / gain, allowed / gain
    factor = scipy.linalg.cho_factor(scaled @ scaled.T + np.eye(len(root)), lower=True)
    z, v = wanted.copy(), aim.copy()
    drift_z, drift_v = np.zeros_like(z), np.zeros_like(v)
    for _ in range(_STEPS):
        right = (z - drift_z) + (v - drift_v) @ scaled.T
        w = scipy.linalg.cho_solve(factor, right.T).T
        near = w + drift_z
        z = np.sign(near) * np.maximum(np.abs(near) - size, 0.0)
        product = w @ scaled
        gap = product + drift_v - aim
        length = float(np.linalg.norm(gap))
        v = aim + gap * min(1.0, allowed / length if length else 1.0)
        drift_z += w - z
        drift_v += product - v
    return np.asarray(z)


def _within(wanted: Floats, h: Floats, root: Floats, sparse: Floats, allowed: float) -> Floats:
    """Fitted on the smallest support within what is allowed: weights join in the order of their sizes, so errors only fall."""
    order = np.lexsort((-np.abs(wanted).reshape(-1), -np.abs(sparse).reshape(-1)))

    def fitted(count: int) -> Floats:
        chosen = np.zeros(wanted.size, bool)
        chosen[order[:count]] = True
        return np.asarray(on_support(wanted[None], h[None], chosen.reshape(1, *wanted.shape))[0])

    low, high, best = 0, wanted.size, wanted
    while high - low > 1:
        middle = (low + high) // 2
        fit = fitted(middle)
        if float(np.linalg.norm((fit - wanted) @ root)) <= allowed:
            high, best = middle, fit
        else:
            low = middle
    return best
