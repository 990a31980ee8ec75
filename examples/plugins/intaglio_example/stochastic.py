"""A rounding: up or down by chance, the likelier the nearer."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from intaglio.passes.precision.grid import Quantized, spread
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
    scale, zero = (spread(v, problem.block, problem.wanted.shape[-1]) for v in (steps.scale, steps.zero))
    rounded = (problem.grid.round(problem.wanted + scale * one, scale, zero) for one in noise)
    drawn = [steps.of(problem, integers) for integers in rounded]
    return min(drawn, key=lambda one: float(problem.cost(one.floats()).sum()))
