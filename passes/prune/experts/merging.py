"""Merges: what is made of the experts that go and of those that stay, where nothing of the router changes.

Tokens choose among all experts as before; what is looked up for one that went is what stands in for it. So experts that
compute the same merge into one with no change, however their units are ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from ....graph.registry import Registry
from .routers import Kept as Kept

Stacks = Mapping[str, np.ndarray]
"""Constants that experts are looked up in, by name, with the experts along the first axis."""


@dataclass(frozen=True)
class Units:
    """Units inside of experts that may stand in any order: ``places`` says for constants and axes of them which indices
    belong to each. Shapes: (units, indices of one)."""

    places: Mapping[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True)
class Crowd:
    """The experts of one router: how often data ``took`` each (experts,), the cosines of their ``scores`` over all tokens
    (experts, experts), their weights, and the units inside of them."""

    took: NDArray[np.int64]
    scores: NDArray[np.float64]
    stacks: Stacks
    units: Sequence[Units] = ()

    def nearest(self, kept: Kept) -> NDArray[np.int64]:
        """For each expert which of those that stay, counted from 0, tokens score most like it; of these each itself."""
        near = np.argmax(self.scores[:, kept], axis=1)
        near[kept] = np.arange(len(kept))
        return near

    def aligned(self, expert: int, to: int) -> dict[str, np.ndarray]:
        """Weights of an expert, its units in the order in which they are most like those of another.

        Source: Ainsworth et al., "Git Re-Basin", ICLR 2023, arXiv:2209.04836 (matching weights by one assignment).
        """
        own = {name: stack[expert] for name, stack in self.stacks.items()}
        for units in self.units if expert != to else ():
            sides = (own, {name: stack[to] for name, stack in self.stacks.items()})
            theirs, wanted = (_by_unit(weights, units) for weights in sides)
            _, order = scipy.optimize.linear_sum_assignment(wanted @ theirs.T, maximize=True)
            own |= reordered(own, units, order)
        return own


def _by_unit(weights: Stacks, units: Units) -> NDArray[np.float32]:
    """All weights of each unit. Shapes: (units, weights of one)."""
    parts = [
        np.moveaxis(weights[name], axis - 1, 0)[at].reshape(len(at), -1) for (name, axis), at in units.places.items()
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def reordered(weights: Stacks, units: Units, order: NDArray[np.int64]) -> dict[str, np.ndarray]:
    """Weights of one expert with unit ``order[k]`` in the place of unit k."""
    changed = dict(weights)
    for (name, axis), at in units.places.items():
        index = np.arange(changed[name].shape[axis - 1])
        index[at] = at[order]
        changed[name] = np.take(changed[name], index, axis=axis - 1)
    return changed


@dataclass(frozen=True)
class Merged:
    """``place`` (experts,) says at which index of the new ``stacks`` each expert of before is looked up."""

    place: NDArray[np.int64]
    stacks: Stacks


Merge = Callable[[Crowd, Kept], Merged]
"""What becomes of a router's experts where those that are given, by number and in order, lead."""
MERGES: Registry[Merge] = Registry("merge", "intaglio.merges", "intaglio.passes.prune.experts")


@MERGES.register("msmoe")
def msmoe(crowd: Crowd, kept: Kept) -> Merged:
    """Means of aligned experts that tokens score alike, weighed by how often they are taken.

    Source: Li et al., "Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing Policy" (M-SMoE), ICLR
    2024, arXiv:2310.01334. Differs: nothing is trained afterwards.
    """
    place = crowd.nearest(kept)
    stacks = {name: stack[kept] for name, stack in crowd.stacks.items()}
    for new, leader in enumerate(kept):
        members = np.flatnonzero(place == new)
        shares = crowd.took[members] if crowd.took[members].any() else np.ones(len(members))
        for name in stacks:
            stacks[name][new] = 0
        for expert, share in zip(members, shares / shares.sum(), strict=True):
            for name, weight in crowd.aligned(int(expert), int(leader)).items():
                stacks[name][new] += (weight.astype(np.float32) * np.float32(share)).astype(weight.dtype)
    return Merged(place, stacks)
