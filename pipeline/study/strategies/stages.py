"""A front for each part of the network, joined."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from ..objectives import best
from ..record import Record, Told
from .linas import new_ones
from .strategy import STRATEGIES, Proposal


class Stages(BaseModel):
    """Options of ``stages``."""

    apart: int = Field(default=8, ge=2, le=10000, description="trials of each part of the network alone")


@STRATEGIES.register("stages", options=Stages)
def stages(told: Told, count: int, options: Stages) -> list[Proposal]:
    """Each quarter of the layers is varied alone, then points of their fronts are joined: least impairment for what is saved.

    Source: EMO-PMS: evolutionary multi-objective pruning by stages, whose fronts are joined by impairment per MAC.
    Differs: the parts are quarters of the layers in graph order, drawn at random; what parts cost is added up.
    """
    parts = sorted(set(told.space.stages.values())) or [0]
    alone = [told.space.values(_alone(told, part, number)) for part in parts for number in range(options.apart)]
    began = len(told.records)
    if began < 1 + len(alone):
        whole = told.space.values(np.ones(len(told.space.parameters)))
        return [Proposal(one) for one in [whole, *alone][began : began + count]]
    return _joined(told, parts, options.apart, count)


def _alone(told: Told, part: int, number: int) -> np.ndarray:
    """All but one part as mild as can be."""
    rng = np.random.default_rng([told.seed, part, number])
    places = rng.random(len(told.space.parameters)) ** rng.uniform(0.5, 2)
    mild = [told.space.stages.get(one.name, 0) != part for one in told.space.parameters]
    return np.where(mild, 1.0, places)


def _joined(told: Told, parts: list[int], apart: int, count: int) -> list[Proposal]:
    """Sums of one point of each part's front, the best of many drawn ones."""
    first, rng = told.records[0], told.rng
    if not first.usable:
        return []
    base = told.costs([first])[0]
    fronts = [_front(told, 1 + k * apart, apart, first) for k in range(len(parts))]
    drawn = [[front[int(rng.integers(len(front)))] for front in fronts] for _ in range(200 * count)]
    places = np.array([_mixed(told, parts, one) for one in drawn])
    costs = np.array([base + sum(told.costs([r])[0] - base for r in one) for one in drawn])
    front = best(costs)
    order = np.concatenate([np.flatnonzero(front), np.flatnonzero(~front)])
    return new_ones(told, places[order], costs[order], count)


def _front(told: Told, began: int, count: int, whole: Record) -> list[Record]:
    some = [one for one in told.records[began : began + count] if one.usable]
    return [whole, *(some[k] for k in np.flatnonzero(best(told.costs(some))))]


def _mixed(told: Told, parts: list[int], chosen: list[Record]) -> np.ndarray:
    """Each parameter as the record of its part has it."""
    by_part = {part: told.space.places(one.values) for part, one in zip(parts, chosen, strict=True)}
    names = [one.name for one in told.space.parameters]
    return np.array([by_part[told.space.stages.get(name, 0)][k] for k, name in enumerate(names)])
