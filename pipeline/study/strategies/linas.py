"""Search on predictors: what is measured teaches them, what they like best is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from ....passes.options import Options, Registered
from ..predictors.predictor import PREDICTORS
from ..record import Told
from ..space import Space
from .evolve import evolved
from .strategy import STRATEGIES, Proposal, alike, spread


class Linas(Options):
    """Options of ``linas``."""

    population: int = Field(default=16, ge=4, le=10000, description="random trials before anything is predicted")
    predictor: Annotated[str, Registered("intaglio.predictors")] = Field(
        default="ridge", description="what tells figures from values"
    )
    generations: int = Field(default=40, ge=1, le=10000, description="generations on the predictors, each round")


@STRATEGIES.register("linas", options=Linas)
def linas(told: Told, count: int, options: Linas) -> list[Proposal]:
    """A random population, predictors of each objective, a front evolved on them, measured, and again.

    Source: Sarah et al., "A Hardware-Aware System for Accelerating Deep Neural Network Optimization", 2022,
    arXiv:2202.12954 (LINAS).
    Differs: predictors see places of values between 0 and 1, and squares of them; a fifth of each round is drawn from the
    space; in the first five trials all parameters stand alike.
    """
    usable = told.usable
    if len(told.records) < options.population or len(usable) < 4:
        return [*alike(told), *spread(told, count)][:count]
    rng, known = told.rng, told.places(usable)
    costs = predicted(told, options.predictor)
    size = max(4 * count, 40)
    start = np.concatenate([known, rng.random((size, known.shape[1]))])
    found = evolved(start, costs, rng, generations=options.generations, size=size)
    chosen = new_ones(told, found, costs(found), count - count // 5)
    return [*chosen, *spread(told, count - len(chosen))]


def predicted(told: Told, predictor: str) -> Callable[[np.ndarray], np.ndarray]:
    """The costs of places, by what was measured."""
    usable = told.usable
    known, figures = features(told.space, told.places(usable)), told.costs(usable)
    parts = [PREDICTORS[predictor](known, column, told.seed) for column in figures.T]
    return lambda places: np.stack([part(features(told.space, places)) for part in parts], axis=1)


def features(space: Space, places: np.ndarray) -> np.ndarray:
    """Of values, not of places between them; choices without an order have a column each."""
    columns = []
    for one, column in zip(space.parameters, places.T, strict=True):
        if not one.levels:
            columns.append(column)
            continue
        level = np.minimum((column * one.levels).astype(int), one.levels - 1)
        if one.ordered:
            columns.append((level + 0.5) / one.levels)
        else:
            columns += [(level == k).astype(float) for k in range(one.levels)]
    return np.stack(columns, axis=1)


def new_ones(told: Told, places: np.ndarray, costs: np.ndarray, count: int) -> list[Proposal]:
    """The best that were not tried, spread along the first objective."""
    tried = {str(dict(one.values)) for one in told.records}
    fresh: dict[str, int] = {}
    for row, place in enumerate(places):
        text = str(told.space.values(place))
        if text not in tried:
            fresh.setdefault(text, row)
    rows = list(fresh.values())[: max(count, len(fresh) // 2)]  # populations are ordered: the best first
    rows.sort(key=lambda row: tuple(costs[row]))
    picked = (
        [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        if rows
        else []
    )
    return [Proposal(told.space.values(places[row])) for row in picked]
