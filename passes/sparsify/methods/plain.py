"""Methods that look at weights alone, or at how large their inputs are."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from ...needs import SECOND_MOMENTS
from ..method import Problem, scored


@scored("magnitude")
def magnitude(problem: Problem) -> Floats:
    """The largest weights stay.

    Source: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015,
    arXiv:1506.02626.
    """
    return np.abs(problem.wanted)


@scored("random")
def random(problem: Problem) -> Floats:
    """Any weights stay: what every other method is to be compared with.

    Source: Liu et al., "The Unreasonable Effectiveness of Random Pruning", ICLR 2022, arXiv:2202.02643.
    """
    return problem.rng.random(problem.wanted.shape)


@scored("lamp")
def lamp(problem: Problem) -> Floats:
    """Squares relative to those of all weights of the layer that are no smaller: made for --layers global.

    Source: Lee et al., "Layer-Adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv:2010.07611.
    """
    squares = np.square(problem.wanted).reshape(-1)
    order = np.argsort(squares, kind="stable")
    left = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.where(left > 0, left, 1.0)
    return scores.reshape(problem.wanted.shape)


@scored("wanda", needs=(SECOND_MOMENTS,))
def wanda(problem: Problem) -> Floats:
    """Size times the root mean square of the input, compared within each output.

    Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, arXiv:2306.11695.
    Differs: inputs are centred where the layer has a bias, and what stays is fitted unless --no-refit.
    """
    sizes = np.abs(problem.wanted) * np.sqrt(np.einsum("gcc->gc", problem.known))[:, None]
    return np.argsort(np.argsort(sizes, axis=-1, kind="stable"), axis=-1).astype(np.float64)
