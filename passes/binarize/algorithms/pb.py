"""A few weights in eight bits, signs for all others."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ....graph.layer import Floats
from ...calibration.reconstruct import damp_hessian, inverse
from .binarizer import Errors, Look, Problem, binarizer
from .codes import SHIFTED, Code, Salient
from .descent import fit_code

_MOST = 255
"""The largest magnitude: the sign of a salient weight is among the signs of all."""


def errors(salient: float) -> Errors:
    """What signs leave of the smallest weights, the others being exact.

    With ``t`` where those begin, ``p`` their part, ``m`` and ``v`` the integrals of size and square up to ``t``, it is
    ``v - m² / p``.
    """
    part = 1 - salient
    normal = NormalDist()
    t = normal.inv_cdf(1 - salient / 2) if salient > 0 else 40.0
    m, v = 2 * (normal.pdf(0) - normal.pdf(t)), part - 2 * t * normal.pdf(t)
    b = np.sqrt(0.5)
    u = -b * np.log(salient) if salient > 0 else 40.0
    n, w = b - (u + b) * np.exp(-u / b), 1 - (u * u + 2 * b * u + 1) * np.exp(-u / b)
    return (v - m * m / part, float(w - n * n / part)) if part > 0 else (0.0, 0.0)


def largest_of(layer: Look) -> Iterator[NDArray[np.bool_]]:
    """The largest weights of a layer, of equals the first; part by part."""
    sizes = [np.abs(problem.wanted).astype(np.float32) for problem in layer]
    limits, ties = [], []
    for group in range(len(sizes[0])):
        flat = np.concatenate([size[group].reshape(-1) for size in sizes])
        count = round(layer.parts[0]().salient * flat.size)
        flat.partition(min(flat.size - count, flat.size - 1))
        limits.append(flat[flat.size - count] if count else np.inf)
        ties.append(count - int(np.count_nonzero(flat > limits[-1])))
    for size in sizes:
        mask = size > np.array(limits, np.float32)[:, None, None]
        for group, limit in enumerate(limits):
            equal = np.flatnonzero(size[group] == limit)[: ties[group]]
            mask[group][np.unravel_index(equal, size[group].shape)] = True
            ties[group] -= len(equal)
        yield mask


@binarizer("pb", errors, by_rows=True, look=largest_of)
def pb(problem: Problem) -> Code:
    """A tenth of the weights (--salient) in eight bits, chosen by size or by what they cost; signs for the rest.

    Source: Shang et al., "PB-LLM: Partially Binarized Large Language Models", ICLR 2024, arXiv:2310.00034. Differs: the
    mean and the scale are those of the weights that become signs alone; with data, salience by size and by the Hessian
    are both tried, row by row, and numbers and scales are fitted further.
    """
    found = [partial(problem, salience) for salience in saliences(problem)]
    return fit_code(problem, *found)


def saliences(problem: Problem) -> list[Floats]:
    """How much a weight matters: its size; with data also its square over that of the Hessian's inverse."""
    size = np.abs(problem.wanted)
    if problem.hessian is None:
        return [size]
    spread = np.stack([np.diag(inverse(damp_hessian(h))) for h in problem.hessian])
    return [size, np.square(problem.wanted / spread[:, None])]


def partial(problem: Problem, salience: Floats) -> Code:
    """The most salient weights of a layer in eight bits. Shapes: salience (groups, outputs, columns)."""
    mask = largest_salience(salience, problem.salient) if problem.seen is None else problem.seen
    size = np.abs(problem.wanted)
    mean = problem.means(problem.wanted, ~mask)
    gap = problem.wanted - problem.wide(mean)
    scale = problem.means(np.abs(gap), ~mask)
    step = np.where(mask, size, 0.0).max(axis=-1, initial=0.0) / _MOST
    magnitude = np.where(mask, np.rint(size / np.where(step > 0, step, 1.0)[..., None]), 0).astype(np.uint8)
    levels = SHIFTED.of_sign(np.where(mask, problem.wanted, gap))
    salient = Salient(mask, magnitude, step) if mask.any() else None
    return Code(SHIFTED, levels, np.stack([scale, mean]), problem.block, salient=salient)


def largest_salience(salience: Floats, part: float) -> NDArray[np.bool_]:
    """The largest ones, of equals the first, so many of each group."""
    flat = salience.reshape(len(salience), -1)
    count = round(part * flat.shape[1])
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask.reshape(salience.shape)
