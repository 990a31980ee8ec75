"""Weights of -1, 0 and 1 with a threshold in proportion to the mean size."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from .binarizer import Problem, binarizer
from .codes import TERNARY, Code
from .descent import fit_code

THRESHOLD = 0.7
"""Of the mean size: the paper's value."""


@binarizer("twn", (0.192, 0.282), by_rows=True)
def twn(problem: Problem) -> Code:
    """Ternary: weights below 0.7 times the mean size are 0, the scale is the mean size of the others.

    Source: Li et al., "Ternary Weight Networks", 2016, arXiv:1605.04711.
    """
    size = np.abs(problem.wanted)
    kept = size > problem.wide(THRESHOLD * problem.means(size))
    return fit_code(problem, ternary(problem, kept, problem.means(size, kept)))


def ternary(problem: Problem, kept: np.ndarray, scale: Floats) -> Code:
    """Shapes: kept (groups, outputs, columns), scale (groups, outputs, blocks)."""
    levels = np.where(kept, np.where(problem.wanted < 0, 2, 1), 0).astype(np.uint8)
    return Code(TERNARY, levels, scale[None], problem.block)
