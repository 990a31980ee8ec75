"""The method that leaves the least error, layer by layer."""

from __future__ import annotations

from ...precision.grid import Quantized
from ...rounding.problem import Problem
from .rounding import ROUNDERS, cheapest

CANDIDATES = ("nearest", "descent")
"""With data, of equals the first; mse and gptq cannot win, as descent starts from the better of all for each row."""
BLIND = ("nearest", "mse")
"""Without."""


@ROUNDERS.register("auto")
def auto(problem: Problem) -> Quantized:
    """What costs each layer least, of nearest, mse, gptq and descent."""
    return cheapest(problem, CANDIDATES if problem.hessian is not None else BLIND)[1]
