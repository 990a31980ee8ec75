"""A rounding: up or down by chance, the likelier the nearer."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from intaglio.passes.precision.grid import Quantized
from intaglio.passes.quantize.rounding.rounding import ROUNDERS
from intaglio.passes.rounding.problem import Problem
from intaglio.passes.rounding.steps import cover_range


class Draw(BaseModel):
    """Options of the rounding."""

    draws: int = Field(default=4, ge=1, description="attempts, of which the best for each row is kept")


@ROUNDERS.register("stochastic", options=Draw, needs=("second_moments",))
def stochastic(problem: Problem, options: Draw) -> Quantized:
    """Rounded by chance a few times; the draw that costs the layer least. Needs data."""
    steps, random = cover_range(problem), np.random.default_rng(0)
    noise = (random.uniform(-0.5, 0.5, problem.wanted.shape) for _ in range(options.draws))
    scale = np.repeat(steps.scale, problem.block or problem.wanted.shape[-1], axis=-1)[..., : problem.wanted.shape[-1]]
    drawn = [steps.quantized(problem, problem.wanted + scale * one) for one in noise]
    return min(drawn, key=lambda one: float(problem.cost(one.floats()).sum()))
