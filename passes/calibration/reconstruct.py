"""Refit one layer so that it gives what is wanted of it from the patches that really reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy

from ...graph.layer import Floats, Layer
from ...graph.model import Model
from .moments import Moments

RIDGE = 1e-2
"""Pull towards the old weights, relative to the mean variance of a column."""
REFITS = 2
"""Rounds of the refit that looks through a rectifier; more did not help."""


@dataclass(frozen=True)
class Fit:
    """An affine map from patches to targets. Shapes: weight (groups, outputs, columns), offset (groups, outputs)."""

    weight: Floats
    offset: Floats

    def __call__(self, patches: Floats) -> Floats:
        """Shapes: (groups, patches, columns) -> (groups, patches, outputs), in the precision of the patches."""
        weight, offset = self.weight.astype(patches.dtype), self.offset.astype(patches.dtype)
        return np.asarray(np.matmul(patches, weight.transpose(0, 2, 1)) + offset[:, None])


def ridge(moments: Moments, old: Floats, *, centred: bool = True, strength: float = RIDGE) -> Fit:
    """Least squares from patches to targets, pulled towards the old weights; the offset is free.

    ``W = (R + s W0) (H + s I)^-1`` with ``H`` the patches' covariance, ``R`` that of targets with patches, and ``s`` the
    strength times the mean of H's diagonal. Not ``centred`` is for layers that have no bias: moments about zero, no
    offset. The factors of ``H + s I`` are kept for other targets of the same patches.

    Source: Hoerl and Kennard, "Ridge Regression", Technometrics 1970; for layers of pruned networks He et al., "Channel
    Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168.
    """
    mean, wanted = moments.mean, moments.target_mean
    h, r = moments.normal_equations(centred=centred)
    factors = [moments.solvers.setdefault((g, centred), {}) for g in range(len(old))]
    weight = np.stack([solve(h[g], r[g], one, strength, factors[g]) for g, one in enumerate(old)])
    offset = wanted - np.einsum("goc,gc->go", weight, mean) if centred else np.zeros(wanted.shape)
    return Fit(weight, offset)


def solve(h: Floats, r: Floats, old: Floats, strength: float, factors: dict[float, Any] | None = None) -> Floats:
    """One group's ridge solution. Shapes: h (columns, columns), r and old (outputs, columns).

    ``factors`` has those of ``h`` by strength, as far as they were needed.
    """
    size, factors = _pull(h, strength), {} if factors is None else factors
    if size <= 0:
        return old
    if strength not in factors:
        factors[strength] = scipy.linalg.cho_factor(_raised(h, size), lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factors[strength], (r + size * old).T, check_finite=False).T)


def damp_hessian(h: Floats, strength: float = RIDGE) -> Floats:
    """Moments with the ridge added. Shapes: (columns, columns)."""
    return _raised(h, _pull(h, strength) or 1.0)


def _pull(h: Floats, strength: float) -> float:
    return strength * float(np.diag(h).mean()) if len(h) else 0.0


def _raised(h: Floats, size: float) -> Floats:
    """``h`` with ``size`` added to its diagonal."""
    found = np.array(h)
    found[np.diag_indices(len(h))] += size
    return found


def damped_hessian(moments: Moments, strength: float, *, centred: bool, least: float = -np.inf) -> Floats:
    """Of the layer's squared error, for each group, with the ridge added. Shapes: (groups, columns, columns)."""
    h = moments.hessian(centred=centred)
    pull = np.maximum(strength * np.einsum("gcc->g", h) / max(1, h.shape[-1]), least)
    return np.asarray(h + pull[:, None, None] * np.eye(h.shape[-1]))


def inverse(h: Floats) -> Floats:
    """Of a positive definite matrix, by its Cholesky factor: half the work of a general inverse."""
    lower, failed = scipy.linalg.lapack.dpotrf(h, lower=1)
    found, singular = scipy.linalg.lapack.dpotri(lower, lower=1) if not failed else (h, 1)
    if failed or singular:
        return np.linalg.inv(h)
    whole = found + found.T  # above the diagonal there are zeros
    np.fill_diagonal(whole, np.diag(found))
    return np.asarray(whole)


@dataclass(frozen=True)
class Sample:
    """Patches of one batch with what the network before the nonlinearity should become, and what else is added to it.

    Shapes: patches (groups, n, columns), others and wanted (groups, n,
    outputs).
    """

    patches: Floats
    wanted: Floats
    others: Floats | float = 0.0

    @property
    def target(self) -> Floats:
        """What the layer itself should add to what else is added."""
        return np.asarray(self.wanted - self.others)


def moments_within(
    bounds: tuple[float, float], samples: Iterator[Callable[[], Sample]], known: Moments, fit: Fit
) -> Moments:
    """Moments with targets that count only what gets through; ``known`` has those of the same patches.

    Where the original is cut off, any value that is cut off too will do: the target becomes the fit's own prediction,
    moved to the limit if it is on the wrong side.
    """
    moments = known.other_targets()
    moments.add_all(partial(_through, *bounds, fit, sample) for sample in samples)
    return moments


def _through(low: float, high: float, fit: Fit, make: Callable[[], Sample]) -> tuple[Floats, Floats]:
    """Patches, and targets that any value beyond a limit satisfies where the original is beyond it."""
    sample = make()
    ahead = fit(sample.patches) + sample.others
    wanted = np.where(sample.wanted <= low, np.minimum(ahead, low), sample.wanted)
    if np.isfinite(high):
        wanted = np.where(sample.wanted >= high, np.maximum(ahead, high), wanted)
    return sample.patches, (wanted - sample.others).astype(sample.patches.dtype, copy=False)


def constants_of(layer: Layer, model: Model, fit: Fit) -> dict[str, Floats]:
    """The layer's constants that are this fit, by name, in the types that they have in the model."""
    found = {layer.weight: layer.weight_like(fit.weight, model.weights[layer.weight])}
    if layer.bias is not None:
        found[layer.bias] = layer.bias_like(fit.offset, model.weights[layer.bias])
    return found


def constants_with_mean(layer: Layer, model: Model, weight: Floats, mean: Floats) -> dict[str, Floats]:
    """Constants with other matrices, and the bias that keeps what a mean patch gives.

    Shapes: weight (groups, outputs, columns), mean (groups, columns).
    """
    offset = layer.offset(model)
    if offset is None:
        return {layer.weight: layer.weight_like(weight, model.weights[layer.weight])}
    moved = np.einsum("goc,gc->go", layer.matrix(model.weights[layer.weight]) - weight, mean)
    return constants_of(layer, model, Fit(weight, offset + moved))
