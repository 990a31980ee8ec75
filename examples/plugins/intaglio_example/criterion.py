"""A criterion: a channel is worth as much as the largest weight that would go with it."""

from __future__ import annotations

import numpy as np

from intaglio.passes.prune import GroupWeights, criterion


@criterion("peak")
def peak(group: GroupWeights) -> np.ndarray:
    """Largest absolute weight of a channel, in what makes it and in what reads it. Shapes: (channels,)."""
    scores = np.zeros(group.channels)
    for member in group.having("out", "in"):
        np.maximum.at(scores, member.channel, np.abs(member.rows).max(axis=1))
    return scores
