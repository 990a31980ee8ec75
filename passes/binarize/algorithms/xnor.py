"""A sign for each weight and a scale for each row or block."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from .binarizer import Problem, binarizer
from .codes import SIGN, Code
from .descent import fit_code


@binarizer("xnor", (1 - 2 / np.pi, 0.5), by_rows=True)
def xnor(problem: Problem) -> Code:
    """One plane of signs; the scale is the mean size of a row's weights.

    Source: Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", ECCV 2016,
    arXiv:1603.05279, section 3.1.
    """
    return fit_code(problem, signs(problem, problem.means(np.abs(problem.wanted))))


def signs(problem: Problem, scale: Floats, column: Floats | None = None) -> Code:
    """Shapes: scale (groups, outputs, blocks), column (groups, columns)."""
    return Code(SIGN, SIGN.of_sign(problem.wanted), scale[None], problem.block, column=column)
