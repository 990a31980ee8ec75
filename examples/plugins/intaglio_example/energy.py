"""A criterion that looks at activations: how much of what its readers make comes through a channel."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from intaglio.passes.prune import GroupWeights, criterion


class Energy(BaseModel):
    """Options of the criterion."""

    power: float = Field(default=2.0, gt=0, le=4, description="power that sizes of weights are raised to")


@criterion("energy", options=Energy, needs=("second_moments",))
def energy(group: GroupWeights, options: Energy) -> np.ndarray:
    """Mean square of a channel on the data, times the sizes of the weights that read it. Shapes: (channels,)."""
    scores = np.zeros(group.channels)
    for member in group.having("in"):
        sizes = (np.abs(member.rows) ** options.power).sum(axis=1)
        scores += member.total(sizes * np.diag(member.inputs.second_moments))
    return scores
