"""A binarizer: signs whose scale is the root mean square of a row's weights."""

from __future__ import annotations

import numpy as np

from intaglio.passes.binarize.algorithms.binarizer import Problem, binarizer
from intaglio.passes.binarize.algorithms.codes import SIGN, Code


@binarizer("rms", (2 - 2 * np.sqrt(2 / np.pi), 2 - np.sqrt(2)))
def rms(problem: Problem) -> Code:
    """One plane of signs; the scale is the root mean square of a row's weights."""
    scale = np.sqrt(problem.means(np.square(problem.wanted)))
    return Code(SIGN, SIGN.of_sign(problem.wanted), scale[None], problem.block)
