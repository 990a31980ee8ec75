"""Two planes of 0 and 1, which may multiply scales of either sign."""

from __future__ import annotations

import numpy as np

from ...precision.grid import Grid
from ...rounding.problem import Problem as Rounding
from ...rounding.steps import search_scales
from .binarizer import Problem, binarizer
from .codes import TWO_MASKS, Code
from .descent import fit_code
from .fit import alternate_fit


@binarizer("dbllm", (0.135, 0.187), by_rows=True)
def dbllm(problem: Problem) -> Code:
    """Two planes of 0 and 1: they begin as -s, 0, s, 2s of two bits, then both scales are fitted.

    Source: Chen et al., "DB-LLM: Accurate Dual-Binarization for Efficient LLMs", Findings of ACL 2024, arXiv:2402.11960,
    section 3.2. Differs: scales are solved for by least squares instead of distillation, which needs training.
    """
    return fit_code(problem, alternate_fit(problem.wanted, dual(problem)))


def dual(problem: Problem) -> Code:
    """The start: two bits with the step of least error, turned upside down where that fits better."""
    step = -search_scales(Rounding(problem.wanted, Grid(2), None, problem.block)).scale
    scale = np.stack([2 * step, -step])
    return Code(TWO_MASKS, np.zeros(problem.wanted.shape, np.uint8), scale, problem.block).nearest(problem.wanted)
