"""A rounding that looks at gradients: scales fit the weights that the loss feels most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.passes.precision.grid import Quantized
from intaglio.passes.quantize.rounding.rounding import ROUNDERS
from intaglio.passes.rounding.problem import Problem
from intaglio.passes.rounding.steps import cover_range


@ROUNDERS.register("fisher", needs=("gradients",))
def fisher(problem: Problem) -> Quantized:
    """Nearest numbers, then each row's scale by least squares in which a weight counts its mean squared gradient."""
    found = cover_range(replace(problem, block=0)).quantized(replace(problem, block=0))
    counts, codes = problem.squared_gradients, found.integers
    fitted = (counts * codes * problem.wanted).sum(axis=-1) / np.maximum((counts * codes**2).sum(axis=-1), 1e-300)
    return replace(found, scale=np.where(fitted > 0, fitted, found.scale[..., 0])[..., None])
