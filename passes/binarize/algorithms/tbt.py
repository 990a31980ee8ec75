"""Weights of -1, 0 and 1 by rounding."""

from __future__ import annotations

import numpy as np

from .binarizer import Problem, binarizer
from .codes import Code
from .descent import fit_code
from .twn import ternary

WIDTH = 4 / 3
"""The scale in units of the mean size: the paper's value."""


@binarizer("tbt", (0.200, 0.315), by_rows=True)
def tbt(problem: Problem) -> Code:
    """Ternary: rounded to -1, 0 or 1 times 4/3 of the mean size.

    Source: Liu et al., "Binary and Ternary Natural Language Generation", ACL 2023, arXiv:2306.01841, section 3.1.
    """
    size = np.abs(problem.wanted)
    scale = WIDTH * problem.means(size)
    return fit_code(problem, ternary(problem, size > problem.wide(scale) / 2, scale))
