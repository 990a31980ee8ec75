"""A criterion that looks at gradients: how far the loss moves, to first order, without what makes a channel."""

from __future__ import annotations

import numpy as np

from intaglio.passes.prune import GroupWeights, criterion


@criterion("slope", needs=("gradients",))
def slope(group: GroupWeights) -> np.ndarray:
    """Size of the sum of gradient times weight. Shapes: (channels,)."""
    moves = np.zeros(group.channels)
    for member in group.having("out", "scale", "shift"):
        moves += member.total((member.gradients * member.rows).sum(axis=1))
    return np.abs(moves)
