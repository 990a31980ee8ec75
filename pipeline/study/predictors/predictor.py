"""What a predictor is: fitted to places and figures, it tells the figures at other places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....graph.registry import Registry

Predict = Callable[[np.ndarray], np.ndarray]
"""Shapes: (rows, features) -> (rows,)."""
Predictor = Callable[[np.ndarray, np.ndarray, int], Predict]
"""Told features, figures and a seed."""
PREDICTORS: Registry[Predictor] = Registry("predictor", "intaglio.predictors", "intaglio.pipeline.study.predictors")


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """How alike two orders are, from -1 to 1; ties count for neither. Source: Kendall, Biometrika 30, 1938."""
    from scipy.stats import kendalltau

    found = float(kendalltau(a, b).statistic) if len(a) > 1 else float("nan")
    return found if np.isfinite(found) else 0.0


def judged(predictor: Predictor, features: np.ndarray, figures: np.ndarray, seed: int = 0, folds: int = 4) -> float:
    """Kendall's tau between figures and what is predicted of them from the others: each fold by the rest."""
    place = np.random.default_rng(seed).permutation(len(figures)) % folds
    found = np.empty(len(figures))
    for fold in range(folds):
        out = place == fold
        if out.any():
            found[out] = predictor(features[~out], figures[~out], seed)(features[out])
    return kendall(found, figures)
