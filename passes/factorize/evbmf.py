"""The rank at which what is left of a matrix looks like noise: empirical variational Bayes matrix factorization."""

from __future__ import annotations

import numpy as np
import scipy

from ...graph.layer import Floats


def evbmf_rank(singular: Floats, rows: int, columns: int) -> int:
    """How many singular values stand out of noise of unknown variance. ``singular`` fall; there are min(rows, columns).

    Source: Nakajima et al., "Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization",
    JMLR 14, 2013. Used for ranks of convolutions by Kim et al., ICLR 2016, arXiv:1511.06530.
    """
    small, large = sorted((rows, columns))
    s = np.asarray(singular[:small], dtype=np.float64)
    if not s.size or s[0] <= 0:
        return 0
    alpha = small / large
    tau = 2.5129 * np.sqrt(alpha)
    least = (1 + tau) * (1 + alpha / tau)
    energy = np.square(s)
    top = min(int(np.ceil(small / (1 + alpha))) - 1, len(s))
    upper = energy.sum() / (small * large)
    tail = energy[top:]
    lower = max(energy[min(top, len(s) - 1)] / (large * least), tail.mean() / large if tail.size else 0.0)
    if upper <= lower:
        variance = upper
    else:
        variance = float(
            scipy.optimize.minimize_scalar(
                _free_energy, args=(energy, alpha, large, least), bounds=(lower, upper), method="bounded"
            ).x
        )
    return int((s > np.sqrt(large * variance * least)).sum())


def _free_energy(variance: float, energy: Floats, alpha: float, large: int, least: float) -> float:
    z = energy / (large * variance)
    z = np.maximum(z, 1e-30)
    total = float((z - np.log(z)).sum())
    above = z[z > least]
    t = _tau(above, alpha)
    return total + float((np.log(t + 1) + alpha * np.log(t / alpha + 1) - t).sum())


def _tau(z: Floats, alpha: float) -> Floats:
    half = z - 1 - alpha
    return np.asarray((half + np.sqrt(np.maximum(np.square(half) - 4 * alpha, 0))) / 2)
