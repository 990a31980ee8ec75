"""Two planes of signs, the second for what the first leaves."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from .binarizer import Problem, binarizer
from .codes import TWO_PLANES, Code
from .descent import fit_code


@binarizer("residual", (0.132, 0.229), by_rows=True)
def residual(problem: Problem) -> Code:
    """Two planes of signs, one after the other: the second is for what the first leaves.

    Source: Lin et al., "Towards Accurate Binary Convolutional Neural Network", NeurIPS 2017, arXiv:1711.11294 (sums of
    planes); Li et al., "Performance Guaranteed Network Acceleration via High-Order Residual Quantization", ICCV 2017,
    arXiv:1708.08687 (the greedy order).
    """
    return fit_code(problem, greedy(problem))


def greedy(problem: Problem) -> Code:
    """Each plane's scale is the mean size of what the planes before leave."""
    rest: Floats = problem.wanted
    scales, negative = [], []
    for _ in range(2):
        scales.append(problem.means(np.abs(rest)))
        negative.append(rest < 0)
        rest = rest - np.where(negative[-1], -1.0, 1.0) * problem.wide(scales[-1])
    levels = (2 * negative[0] + negative[1]).astype(np.uint8)
    return Code(TWO_PLANES, levels, np.stack(scales), problem.block)
