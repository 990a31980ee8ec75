"""Meeting a time with the times of single nodes: what units and options take on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...graph.errors import TargetUnreachable
from ...graph.layer import Floats
from ...graph.model import Model
from ...measure.optime.wholes import time_wholes
from ...measure.run.inputs import runnable_inputs
from ...measure.run.latency import time_pair
from ..budget.latency_target import LatencyReport, Planned, meet_latency
from .candidates import Option
from .gains import Gains
from .plan import Picked, Plan, cheapest, unreachable
from .sites import Unit


@dataclass(frozen=True)
class Times:
    """What units and options take, on ``inputs`` of the ``original``, which takes ``full``."""

    original: Model
    inputs: Mapping[str, np.ndarray]
    full: float
    whole: Floats
    costs: Sequence[Floats]

    @classmethod
    def measured(
        cls, gains: Gains, units: Sequence[Unit], options: Sequence[Sequence[Option]], original: Model
    ) -> Times:
        """An option that cannot be timed takes for ever, a unit no time."""
        whole = np.array([t or 0.0 for t in gains.units(units)])
        costs = []
        for unit, some in zip(units, options, strict=True):
            found = gains.options([(unit, o) for o in some])
            costs.append(np.array([np.inf if t is None else t for t in found]))
        inputs = runnable_inputs(original, batches=(1, 2))
        full = max(time_wholes([original], inputs, 1).relative[0], float(whole.sum()))
        return cls(original, inputs, full, whole, costs)

    @property
    def rest(self) -> float:
        return self.full - float(self.whole.sum())

    @property
    def lowest(self) -> float:
        """The least fraction of the time that any options leave."""
        chosen = zip(self.costs, self.whole, cheapest(self.costs, self.whole), strict=True)
        return (self.rest + float(sum(c[k] if k >= 0 else w for c, w, k in chosen))) / self.full


def meet_target(
    plan: Plan, times: Times, build: Callable[[Picked], Model], keep: float, solver: str
) -> tuple[Picked, LatencyReport]:
    """The options of least loss that leave the fraction ``keep`` of the original's measured time, one thread.

    Raises:
        TargetUnreachable: no choice is predicted to be so fast.
    """
    full, rest, whole, costs = times.full, times.rest, times.whole, times.costs

    def failed(least: float) -> TargetUnreachable:
        return unreachable("latency", keep, (rest + least) / full, [], ", lower --align or --min-gain")

    def planned(goal: float) -> Planned[Picked]:
        picked = plan.within(costs, whole, goal * full - rest, solver, failed)
        spent = rest + sum(_spent(plan, costs, whole, picked))
        return Planned(picked, spent / full, tuple(sorted(picked.items())))

    return meet_latency(planned, lambda picked: time_pair(times.original, build(picked), inputs=times.inputs), keep)


def _spent(plan: Plan, costs: Sequence[Floats], whole: Floats, picked: Picked) -> list[float]:
    found = []
    for k, table in enumerate(plan.tables):
        one = picked.get(k)
        found.append(float(whole[k]) if one is None else float(costs[k][table.options.index(one)]))
    return found
