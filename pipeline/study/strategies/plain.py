"""Strategies that learn nothing from what they tried."""

from __future__ import annotations

from itertools import islice, product

from pydantic import BaseModel, Field

from ..record import Told
from .strategy import STRATEGIES, Proposal, spread


@STRATEGIES.register("random")
def random(told: Told, count: int) -> list[Proposal]:
    """Drawn evenly from the space: the baseline of all others.

    Source: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012.
    """
    return spread(told, count)


class Grid(BaseModel):
    """Options of ``grid``."""

    steps: int = Field(default=3, ge=2, le=64, description="values of each number that has no steps of its own")


@STRATEGIES.register("grid", options=Grid)
def grid(told: Told, count: int, options: Grid) -> list[Proposal]:
    """Every combination in turn, the last parameter changing first; it ends by itself."""
    axes = []
    for one in told.space.parameters:
        levels = one.levels or options.steps
        places = [(k + 0.5) / levels if one.levels else k / (levels - 1) for k in range(levels)]
        axes.append([(one.name, one.at(place)) for place in places])
    began = len(told.records)
    return [Proposal(dict(one)) for one in islice(product(*axes), began, began + count)]
