"""A population that evolves towards predicted fronts: as many generations as are wanted, for nothing is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..objectives import crowding, ranks

Costs = Callable[[np.ndarray], np.ndarray]
"""Of places. Shapes: (rows, parameters) -> (rows, objectives)."""


def evolved(start: np.ndarray, costs: Costs, rng: np.random.Generator, *, generations: int, size: int) -> np.ndarray:
    """The last population, its best first. Shapes: (rows, parameters).

    Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002: ranks, crowding, elitism.
    Differs: uniform crossover and resets of single genes, as most genes are choices.
    """
    parents = _survivors(start, costs(start), size)
    for _ in range(generations):
        children = _children(parents, rng, size)
        both = np.concatenate([parents, children])
        parents = _survivors(both, costs(both), size)
    return parents


def _survivors(rows: np.ndarray, costs: np.ndarray, size: int) -> np.ndarray:
    _, first = np.unique(costs, axis=0, return_index=True)
    first = np.sort(first)
    rows, costs = rows[first], costs[first]
    rank = ranks(costs)
    far = np.zeros(len(rows))
    for one in np.unique(rank):
        far[rank == one] = crowding(costs[rank == one])
    return rows[np.lexsort([-far, rank])[:size]]


def _children(parents: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Of pairs, each parent the better of two drawn ones: populations are ordered."""
    picked = rng.integers(len(parents), size=(2, 2, size)).min(axis=0)
    mothers, fathers = parents[picked[0]], parents[picked[1]]
    mixed = np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)
    reset = rng.random(mixed.shape) < max(1 / mixed.shape[1], 0.05)
    near = np.clip(mixed + rng.normal(0, 0.15, mixed.shape), 0, 1 - 1e-9)
    far = rng.random(mixed.shape)
    return np.where(reset, np.where(rng.random(mixed.shape) < 0.5, near, far), mixed)
