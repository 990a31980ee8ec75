"""Optimal Brain Surgeon for single weights: what goes is what costs the layer least when all others make up for it."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from ....graph.layer import Floats
from ...calibration.reconstruct import inverse
from ...needs import SECOND_MOMENTS
from ..method import METHODS, Method, Problem
from ..patterns import Mask

_ROUNDS = 8
_BUDGET = 1e11
"""Operations of one layer's rounds: wider layers have fewer."""


class Obs(BaseModel):
    """Options of ``obs``."""

    rounds: int = Field(default=_ROUNDS, ge=1, description="in which weights go; each scores what is left anew")


def scores(problem: Problem) -> Floats:
    """What each weight's going costs the layer, of what it gives."""
    energy = float(np.einsum("goc,gcd,god->", problem.wanted, problem.known, problem.wanted))
    costs = np.stack([np.square(w) / np.diag(inverse(h)) for w, h in zip(problem.wanted, problem.known, strict=True)])
    return np.asarray(costs / (energy or 1.0))


def obs(problem: Problem, options: Obs) -> Floats:
    """Weights go that cost least when the others make up for them, in rounds. Needs data.

    Source: Hassibi & Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NeurIPS 1992; Frantar
    & Alistarh, "Optimal Brain Compression", NeurIPS 2022, arXiv:2208.11580. Differs: many weights go at once, in a few
    rounds, between which those that are left are fitted exactly.
    """
    size = problem.wanted.size
    mask, found = np.ones(problem.wanted.shape, bool), scores(problem)
    rounds = min(options.rounds, 1 + int(_BUDGET / _cost(problem)))
    for k in range(rounds):
        if k:
            found = _scored_again(problem, mask)
        count = round(size * (problem.count / size) ** ((k + 1) / rounds))
        mask &= problem.pattern.keep(np.where(mask, found, -np.inf), max(problem.count, count))
    return problem.fitted(mask)


METHODS.register("obs", options=Obs, needs=(SECOND_MOMENTS,))(Method(obs, scores))


def _cost(problem: Problem) -> float:
    """Operations of a round."""
    groups, outputs, columns = problem.wanted.shape
    return 2.0 * groups * outputs * (columns * (problem.count / problem.wanted.size) ** 0.5) ** 3


def _scored_again(problem: Problem, mask: Mask) -> Floats:
    """Of what is left, each row fitted on its own support."""
    found = np.zeros(mask.shape)
    for g, h in enumerate(problem.known):
        right = problem.wanted[g] @ h
        for o, own in enumerate(mask[g]):
            (kept,) = np.nonzero(own)
            if len(kept):
                around = inverse(h[np.ix_(kept, kept)])
                found[g, o, kept] = np.square(around @ right[o, kept]) / np.diag(around)
    return found
