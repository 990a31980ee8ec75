"""A small mixer that is taught orders, not figures."""

from __future__ import annotations

import numpy as np

from .predictor import PREDICTORS, Predict

_STEPS, _RATE, _DECAY = 300, 0.02, 1e-3
_SHARP = 3.0


@PREDICTORS.register("mixer")
def mixer(features: np.ndarray, figures: np.ndarray, seed: int = 0) -> Predict:
    """Features mixed among each other, then their powers; taught by a smooth Kendall's tau, scaled to the figures afterwards.

    Source: Dong et al., "ParZC: Parametric Zero-Cost Proxies for Efficient NAS", 2024, arXiv:2402.02105 (mixer over nodes,
    DiffKendall loss).
    Differs: one block, without normalization; nodes are the places of a trial's values, not zero-cost statistics.
    """
    x, rng = _powers(features), np.random.default_rng(seed)
    tokens, powers = x.shape[1:]
    shapes = ((tokens, tokens), (powers, powers), (tokens * powers,))
    weights = [rng.normal(0, 0.3 / shape[0] ** 0.5, shape) for shape in shapes]
    signs = np.sign(figures[:, None] - figures[None])
    means, squares = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    for step in range(1, _STEPS + 1):
        for k, slope in enumerate(_slopes(x, weights, signs)):
            slope = slope + _DECAY * weights[k]
            means[k] = 0.9 * means[k] + 0.1 * slope
            squares[k] = 0.99 * squares[k] + 0.01 * np.square(slope)
            size = means[k] / (1 - 0.9**step) / (np.sqrt(squares[k] / (1 - 0.99**step)) + 1e-8)
            weights[k] = weights[k] - _RATE * size
    found = _scores(x, weights)[-1]
    scale = float(np.cov(found, figures)[0, 1] / max(found.var(ddof=1), 1e-12)) if len(found) > 1 else 0.0
    middle, low = float(figures.mean()), float(found.mean())
    return lambda others: np.asarray(middle + scale * (_scores(_powers(others), weights)[-1] - low))


def _powers(features: np.ndarray) -> np.ndarray:
    """Shapes: (rows, features) -> (rows, features, powers)."""
    centred = 2 * features - 1
    return np.stack([centred, np.square(centred), np.ones_like(centred)], axis=2)


def _scores(x: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What tokens and powers become, and the scores."""
    tokens, powers, out = weights
    first = np.tanh(np.einsum("ij,njk->nik", tokens, x))
    mixed = x + first
    second = np.tanh(mixed @ powers)
    last = (mixed + second).reshape(len(x), -1)
    return first, mixed, second, last, last @ out


def _slopes(x: np.ndarray, weights: list[np.ndarray], signs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of minus the mean over pairs of tanh of the difference of scores, in the direction of the figures' difference."""
    _, powers, out = weights
    first, mixed, second, last, scores = _scores(x, weights)
    pull = signs * (1 - np.square(np.tanh(_SHARP * (scores[:, None] - scores[None]))))
    back = -2 * _SHARP * pull.sum(axis=1) / signs.size
    to_last = (back[:, None] * out).reshape(mixed.shape)
    to_second = to_last * (1 - np.square(second))
    to_first = (to_last + to_second @ powers.T) * (1 - np.square(first))
    to_powers = np.einsum("nij,nik->jk", mixed, to_second)
    return np.einsum("nik,njk->ij", to_first, x), to_powers, last.T @ back
