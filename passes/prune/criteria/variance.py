"""Criterion: the share of what layers' outputs vary by that a channel makes up, known from BatchNormalization alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ....graph.index import index_of
from ....graph.layer import Layer
from ....graph.nodes import attribute
from ....graph.traits import Trait, has
from ...calibration.normal.moments import Floats, Normal, moments
from ..consumers import impossible
from ..plan import Job, Planner
from ..ranked import Ranked
from ..readers import Readers, Seat
from ..weights import GroupWeights, Scores
from .criteria import CRITERIA, Criterion, Scored


@dataclass(frozen=True, kw_only=True)
class Variance(Criterion):
    """Variance that goes with a channel, as a share of what its readers' outputs vary by, per unit of cost; no data.

    Where a reader's output is a branch of a sum, the share is that of the sum: small branches matter less. Costs are
    those of one channel while all others are there.
    """

    repair: str = "udfc"

    def planner(self, job: Job) -> Planner:
        return Ranked(Scored(score=Shares(job).of, comparable=True), job)


CRITERIA.register("variance")(Variance())


class Shares:
    """Shares of variance of one model's channels."""

    def __init__(self, job: Job) -> None:
        self.job, self.coupling = job, job.coupling
        self.readers = Readers(job.coupling)
        self.known: Mapping[str, Normal] = moments(job.coupling.model, job.coupling.prepared.shapes.dims)
        if not any(s.layer.x in self.known for k in job.numbers for s in self.readers.seats(k)):
            raise impossible(job.coupling, "criterion variance")

    def of(self, group: GroupWeights) -> Scores:
        """Shapes: (channels,). Groups of which nothing is known go last."""
        number = self._numbers[group.name]
        seats = [s for s in self.readers.seats(number) if s.layer.x in self.known]
        if not seats:
            return np.full(group.channels, np.inf)
        share = sum((self._share(s, group.channels) for s in seats), np.zeros(group.channels))
        found = self.coupling.groups[number]
        cost = found.params if self.job.asked.target in ("params", "size") else found.macs
        return np.asarray(share / max(cost, 1.0))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {g.name: k for k, g in enumerate(self.coupling.groups)}

    def _share(self, seat: Seat, channels: int) -> Scores:
        layer = seat.layer
        gain, whole = self._behind(layer)
        weight = layer.matrix(self.coupling.model.weights[layer.weight])
        variance = np.broadcast_to(self.known[layer.x].along(layer.x_axis)[1], (layer.groups * layer.channels,))
        lost = (np.square(weight) * gain.reshape(*weight.shape[:2], 1)).sum(axis=1)
        lost = lost * variance[layer.column_channels]
        mine = seat.channel >= 0
        return np.bincount(seat.channel[mine], weights=lost[mine], minlength=channels) / max(whole, 1e-30)

    def _behind(self, layer: Layer) -> tuple[Floats, float]:
        """What the outputs' variances are multiplied by on the way to the sum they end in, and the variance there."""
        weights, index = self.coupling.model.weights, index_of(self.coupling.model)
        tensor, gain = layer.output, np.ones(self.coupling.prepared.shapes.dims[layer.output][layer.y_axis])
        end = self.known.get(tensor)
        while (node := index.sole_reader(tensor)) is not None:
            if node.op_type == "BatchNormalization" and node.input[1] in weights and node.input[4] in weights:
                scale, variance = weights[node.input[1]].astype(np.float64), weights[node.input[4]].astype(np.float64)
                gain = gain * scale**2 / (variance + attribute(node, "epsilon", 1e-5))
            elif node.op_type != "Add" and not has(node, Trait.IDLE):
                break
            tensor = node.output[0]
            end = self.known.get(tensor, end)
        return gain, float(end.variance.sum()) if end is not None else float(gain.sum())
