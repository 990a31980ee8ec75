"""Salient columns in two planes of signs, all other weights in signs with one of two scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....graph.layer import Floats
from .binarizer import Problem, binarizer
from .codes import TWO_PLANES, Code, parts_of
from .descent import fit_code
from .pb import saliences

MOST_COLUMNS = 50
"""Salient columns of a block that are tried at most, and parts of the largest size that weights are split at."""
_SPLITS = np.linspace(0.1, 0.9, 81)


@binarizer("billm", (0.117, 0.189), block=128)
def billm(problem: Problem) -> Code:
    """Signs with a small or a large scale for each weight; columns that matter most get two planes, block by block.

    Both are the two planes ±u ± v: ``v`` is half the difference of the scales, so that one that is small or large costs
    a bit, as a second plane does.

    Source: Huang et al., "BiLLM: Pushing the Limit of Post-Training Quantization for LLMs", ICML 2024, arXiv:2402.04291.
    Differs: salient columns and the split are searched on the weights themselves; rows' means stay in; with data,
    numbers and scales are fitted further.
    """
    flag = salient_columns(problem, saliences(problem)[-1])
    part = parts_of(problem.columns, problem.block, flag)
    split = splits(problem, flag)
    size = np.abs(problem.wanted)
    large = size >= split
    wanted = np.where(flag, problem.wanted, 0.0)
    first = _means(np.abs(wanted), flag, part)
    rest = wanted - np.sign(np.where(wanted < 0, -1.0, 1.0)) * first[..., part]
    second = _means(np.abs(rest), flag, part)
    low, high = (_means(size, ~flag & where, part) for where in (~large, large))
    high = np.where(high > 0, high, low)
    scale = np.stack([first + (low + high) / 2, second + (high - low) / 2])
    negative = problem.wanted < 0
    other = np.where(flag, rest < 0, negative ^ ~large)
    levels = (2 * negative + other).astype(np.uint8)
    return fit_code(problem, Code(TWO_PLANES, levels, scale, problem.block, flag))


def _means(values: Floats, where: np.ndarray, part: NDArray[np.intp]) -> Floats:
    """Over some entries of each set of columns; 0 where there are none. Shapes: (groups, outputs, columns) -> (groups,
    outputs, parts)."""
    blocks = int(part.max(initial=0)) // 2 + 1
    member = (part[:, None] == np.arange(2 * blocks)).astype(np.float64)
    where = np.broadcast_to(where, values.shape)
    return np.asarray((np.where(where, values, 0.0) @ member) / np.maximum(where.astype(np.float64) @ member, 1.0))


def salient_columns(problem: Problem, salience: Floats) -> NDArray[np.bool_]:
    """Of each block the columns of most salience, as many as leave least error in two planes with signs for the rest."""
    width = problem.block or problem.columns
    flag = np.zeros(problem.columns, bool)
    for start in range(0, problem.columns, width):
        block = problem.wanted[..., start : start + width]
        order = np.argsort(-salience[..., start : start + width].sum(axis=(0, 1)), kind="stable")
        few = range(min(MOST_COLUMNS, len(order)))
        errors = [_error(block[..., order[:k]], block[..., order[k:]]) for k in few]
        flag[start + order[: int(np.argmin(errors))]] = True
    return flag


def _error(twice: Floats, once: Floats) -> float:
    """Of columns in two planes and others in one, each row with scales of its own."""
    rest = np.abs(np.abs(twice) - np.abs(twice).mean(axis=-1, keepdims=True)) if twice.shape[-1] else twice
    return _sign_error(rest) + _sign_error(np.abs(once))


def _sign_error(size: Floats) -> float:
    if not size.shape[-1]:
        return 0.0
    return float(np.square(size).sum() - size.shape[-1] * np.square(size.mean(axis=-1)).sum())


def splits(problem: Problem, flag: NDArray[np.bool_]) -> Floats:
    """Where small weights end and large ones begin: for each block what leaves least error. Shapes: (columns,)."""
    width = problem.block or problem.columns
    found = np.zeros(problem.columns)
    for start in range(0, problem.columns, width):
        here = slice(start, start + width)
        size = np.abs(problem.wanted[..., here][..., ~flag[here]])
        limits = size.max(initial=0.0) * _SPLITS
        errors = [_split_error(size, size >= limit) for limit in limits]
        found[here] = limits[int(np.argmin(errors))]
    return found


def _split_error(size: Floats, large: NDArray[np.bool_]) -> float:
    """Less the sum of squares: what two scales explain."""
    total, many = size.sum(axis=-1), float(size.shape[-1])
    high, count = np.where(large, size, 0.0).sum(axis=-1), large.sum(axis=-1)
    low, rest = total - high, many - count
    explained = np.square(high) / np.maximum(count, 1) + np.square(low) / np.maximum(rest, 1)
    return -float(explained.sum())
