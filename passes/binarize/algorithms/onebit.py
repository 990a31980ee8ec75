"""A sign for each weight, a scale for each row and one for each column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ....graph.layer import Floats
from .binarizer import Look, Problem, binarizer
from .codes import Code
from .descent import fit_code
from .xnor import signs

_STEPS = 50
"""Of the power iteration: sizes of weights are far from any second direction, so that it settles in a few."""


def rows_and_columns(layer: Look) -> Iterator[tuple[Floats, Floats]]:
    """Scales of each part's rows, and of the whole layer's columns."""
    column = np.ones((len(layer.parts[0]().wanted), layer.parts[0]().columns))
    for _ in range(_STEPS):
        above, power = np.zeros_like(column), np.zeros((len(column), 1))
        for problem in layer:
            sizes = np.abs(problem.wanted)
            row = _project(sizes, column)
            above += np.einsum("goc,go->gc", sizes, row)
            power += np.square(row).sum(axis=1, keepdims=True)
        column = above / np.where(power > 0, power, 1.0)
    column = _mean_one(column)
    return ((_project(np.abs(problem.wanted), column), column) for problem in layer)


@binarizer("onebit", (1 - 2 / np.pi, 0.5), block=None, by_rows=True, look=rows_and_columns)
def onebit(problem: Problem) -> Code:
    """One plane of signs; scales of rows and columns multiply to the best approximation of the weights' sizes.

    Source: Xu et al., "OneBit: Towards Extremely Low-bit Large Language Models", NeurIPS 2024, arXiv:2402.11295, section
    3.3 (their start of training). Differs: no training follows, and no normalization is put behind the layer.
    """
    row, column = rank_one(np.abs(problem.wanted)) if problem.seen is None else problem.seen
    return fit_code(problem, signs(replace(problem, block=0), row[..., None], column))


def rank_one(sizes: Floats) -> tuple[Floats, Floats]:
    """The nearest products of a row's number and a column's, columns 1 on average. Shapes: (groups, outputs, columns) ->
    (groups, outputs), (groups, columns).
    """
    column = np.ones((len(sizes), sizes.shape[2]))
    for _ in range(_STEPS):
        row = _project(sizes, column)
        column = _project(sizes.transpose(0, 2, 1), row)
    column = _mean_one(column)
    return _project(sizes, column), column


def _mean_one(column: Floats) -> Floats:
    mean = column.mean(axis=1, keepdims=True)
    return np.where(mean > 0, column / np.where(mean > 0, mean, 1.0), 1.0)


def _project(sizes: Floats, by: Floats) -> Floats:
    power = np.square(by).sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("goc,gc->go", sizes, by) / np.where(power > 0, power, 1.0))
