"""A binarizer that looks at gradients: signs with the scale that the loss feels least."""

from __future__ import annotations

import numpy as np

from intaglio.passes.binarize.algorithms.binarizer import Problem, binarizer
from intaglio.passes.binarize.algorithms.codes import SIGN, Code


@binarizer("felt", (0.37, 0.51), needs=("gradients",), block=None)
def felt(problem: Problem) -> Code:
    """One plane of signs; the scale is the mean size of a row's weights, each counted by its mean squared gradient."""
    counts, size = problem.squared_gradients + 1e-300, np.abs(problem.wanted)
    scale = (counts * size).sum(axis=-1, keepdims=True) / counts.sum(axis=-1, keepdims=True)
    return Code(SIGN, SIGN.of_sign(problem.wanted), scale[None])
