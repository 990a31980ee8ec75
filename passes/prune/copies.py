"""Channels that are copies of others, up to a positive factor: what the weights that make them tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.layer import Floats
from .weights import GroupWeights, Member


@dataclass(frozen=True)
class Copies:
    """``distance`` between channels is one less their cosine; where several layers make or scale them, so that a factor is
    not the same for all, that of their difference. ``factor`` is what channel i is, in units of channel j.

    Shapes: (channels, channels) each.
    """

    distance: Floats
    factor: Floats

    @classmethod
    def of(cls, group: GroupWeights) -> Copies | None:
        """None where nothing says what makes the channels."""
        made = [m for m in group.members if m.role != "in"]
        if not any(m.role == "out" for m in made):
            return None
        rows = [by_channel(m, m.rows) for m in made]
        if any(one is None for one in rows):
            return None
        table = np.concatenate([one.reshape(group.channels, -1) for one in rows if one is not None], axis=1)
        roles = sorted(m.role for m in made)
        products, squares = table @ table.T, np.square(table).sum(axis=1)
        size = np.sqrt(np.outer(squares, squares))
        if roles not in (["out"], ["out", "shift"]):
            apart = np.maximum(squares[:, None] + squares[None] - 2 * products, 0.0)
            largest = np.maximum(squares[:, None], squares[None])
            return cls(_relative(apart, largest), np.ones(products.shape))
        distance = 1 - np.divide(products, size, out=np.ones_like(size), where=size > 0)
        factor = np.divide(products, squares[None], out=np.zeros_like(products), where=squares[None] > 0)
        return cls(np.maximum(distance, 0.0), np.maximum(factor, 0.0))

    def order(self) -> tuple[NDArray[np.intp], Floats]:
        """Channels as they go, each while the nearest of those that are left is as near as said; the last one has none."""
        count = len(self.distance)
        first, second = np.triu_indices(count, 1)
        apart = self.distance[first, second]
        near = np.argsort(apart, kind="stable")
        left, gone, when = np.ones(count, bool), [], []
        for pair in near:
            a, b = first[pair], second[pair]
            if left[a] and left[b]:
                left[b] = False
                gone.append(b)
                when.append(apart[pair])
        return np.array([*gone, *np.nonzero(left)[0]], np.intp), np.array([*when, *[np.inf] * int(left.sum())])


def by_channel(member: Member, rows: Floats) -> Floats | None:
    """Rows of each channel side by side; None where channels have unlike numbers of them. Shapes: -> (channels, entries, n)."""
    count = np.bincount(member.channel, minlength=member.channels)
    if not len(count) or (count != count[0]).any() or not count[0]:
        return None
    order = np.argsort(member.channel, kind="stable")
    return rows[order].reshape(member.channels, count[0], -1)


def _relative(apart: Floats, whole: Floats) -> Floats:
    return np.divide(apart, whole, out=np.zeros_like(apart), where=whole > 0)
