"""A sparsifier: weights far from their row's mean stay."""

from __future__ import annotations

import numpy as np

from intaglio.passes.sparsify.method import Problem, scored


@scored("unusual")
def unusual(problem: Problem) -> np.ndarray:
    """How far a weight is from the mean of its output's weights."""
    return np.abs(problem.wanted - problem.wanted.mean(axis=-1, keepdims=True))
