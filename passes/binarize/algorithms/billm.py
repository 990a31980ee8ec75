"""Salient columns in two planes of signs, all other weights in signs with one of two scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from ....graph.layer import Floats
from .binarizer import Look, Problem, binarizer
from .codes import TWO_PLANES, Code, parts_of
from .descent import fit_code
from .pb import saliences

MOST_COLUMNS = 50
"""Salient columns of a block that are tried at most, and parts of the largest size that weights are split at."""
_SPLITS = np.linspace(0.1, 0.9, 81)


def flags_and_splits(layer: Look) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """Of the whole layer, for each of its parts."""
    flag = salient_columns(layer, sum(np.abs(problem.wanted).sum(axis=(0, 1)) for problem in layer))
    return repeat((flag, splits(layer, flag)))


@binarizer("billm", (0.117, 0.189), block=128, by_rows=True, look=flags_and_splits)
def billm(problem: Problem) -> Code:
    """Signs with a small or a large scale for each weight; columns that matter most get two planes, block by block.

    Both are the two planes ±u ± v: ``v`` is half the difference of the scales, so that one that is small or large costs
    a bit, as a second plane does.

    Source: Huang et al., "BiLLM: Pushing the Limit of Post-Training Quantization for LLMs", ICML 2024, arXiv:2402.04291.
    Differs: salient columns and the split are searched on the weights themselves; rows' means stay in; with data,
    numbers and scales are fitted further.
    """
    if problem.seen is None:
        flag = salient_columns([problem], saliences(problem)[-1].sum(axis=(0, 1)))
        split = splits([problem], flag)
    else:
        flag, split = problem.seen
    part = parts_of(problem.columns, problem.block, flag)
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


def salient_columns(layer: Iterable[Problem], salience: Floats) -> NDArray[np.bool_]:
    """Of each block the columns of most salience, as many as leave least error in two planes with signs for the rest.

    ``layer`` is the problem, or some rows of it after the other. Shapes: salience (columns,) -> (columns,).
    """
    orders: list[NDArray[np.intp]] = []
    errors: list[Floats] = []
    for problem in layer:
        if not orders:
            orders = [np.argsort(-salience[here], kind="stable") for here in problem.blocks]
            errors = [np.zeros(min(MOST_COLUMNS, len(order))) for order in orders]
        for here, order, found in zip(problem.blocks, orders, errors, strict=True):
            block = problem.wanted[..., here]
            found += [_error(block[..., order[:k]], block[..., order[k:]]) for k in range(len(found))]
    flags = [np.isin(np.arange(len(o)), o[: int(np.argmin(e))]) for o, e in zip(orders, errors, strict=True)]
    return np.concatenate([np.zeros(0, bool), *flags])


def _error(twice: Floats, once: Floats) -> float:
    """Of columns in two planes and others in one, each row with scales of its own."""
    rest = np.abs(np.abs(twice) - np.abs(twice).mean(axis=-1, keepdims=True)) if twice.shape[-1] else twice
    return _sign_error(rest) + _sign_error(np.abs(once))


def _sign_error(size: Floats) -> float:
    if not size.shape[-1]:
        return 0.0
    return float(np.square(size).sum() - size.shape[-1] * np.square(size.mean(axis=-1)).sum())


def splits(layer: Iterable[Problem], flag: NDArray[np.bool_]) -> Floats:
    """Where small weights end and large ones begin: for each block what leaves least error. Shapes: (columns,)."""
    blocks, tops = list[slice](), list[list[float]]()
    for problem in layer:
        blocks = problem.blocks
        tops.append([float(_sizes(problem, here, flag).max(initial=0.0)) for here in blocks])
    limits = [max(some) * _SPLITS for some in zip(*tops, strict=True)]
    errors = np.zeros((len(blocks), len(_SPLITS)))
    for problem in layer:
        for found, here, some in zip(errors, blocks, limits, strict=True):
            size = _sizes(problem, here, flag)
            found += [_split_error(size, size >= limit) for limit in some]
    best = [some[int(np.argmin(found))] for some, found in zip(limits, errors, strict=True)]
    return np.repeat(best, [here.stop - here.start for here in blocks])


def _sizes(problem: Problem, here: slice, flag: NDArray[np.bool_]) -> Floats:
    return np.abs(problem.wanted[..., here][..., ~flag[here]])


def _split_error(size: Floats, large: NDArray[np.bool_]) -> float:
    """Less the sum of squares: what two scales explain."""
    total, many = size.sum(axis=-1), float(size.shape[-1])
    high, count = np.where(large, size, 0.0).sum(axis=-1), large.sum(axis=-1)
    low, rest = total - high, many - count
    explained = np.square(high) / np.maximum(count, 1) + np.square(low) / np.maximum(rest, 1)
    return -float(explained.sum())
