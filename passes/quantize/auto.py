"""The method that leaves the least error, layer by layer."""

from __future__ import annotations

from .grid import Quantized
from .rounding import ROUNDERS, Problem, cheapest

CANDIDATES = ("nearest", "mse", "gptq", "descent")
"""In this order: of equals the first wins."""


@ROUNDERS.register("auto")
def auto(problem: Problem) -> Quantized:
    """Try nearest, mse, gptq and descent, and take what costs the layer least."""
    return best(problem)[1]


def best(problem: Problem) -> tuple[str, Quantized]:
    """The name of the best method and what it found."""
    return cheapest(problem, CANDIDATES if problem.second is not None else CANDIDATES[:2])
