"""Meeting a time with the times of single nodes: what units and options take on this machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...graph.errors import TargetUnreachable
from ...graph.layer import Floats
from ...graph.model import Model
from ...measure.optime.wholes import time_wholes
from ...measure.run.inputs import runnable_inputs
from ...measure.run.latency import time_pair
from ..budget.latency_target import LatencyReport, Planned, meet_latency
from .gains import Gains
from .plan import Picked, Plan, unreachable


def meet_target(
    plan: Plan, gains: Gains, original: Model, build: Callable[[Picked], Model], keep: float, solver: str
) -> tuple[Picked, LatencyReport]:
    """The options of least loss that leave the fraction ``keep`` of the original's measured time, one thread.

    Raises:
        TargetUnreachable: no choice is predicted to be so fast.
    """
    whole, costs = _times(plan, gains)
    inputs = runnable_inputs(original, batches=(1, 2))
    full = max(time_wholes([original], inputs, 1).relative[0], float(whole.sum()))
    rest = full - float(whole.sum())

    def failed(least: float) -> TargetUnreachable:
        return unreachable("latency", keep, (rest + least) / full, [], ", lower --align or --min-gain")

    def planned(goal: float) -> Planned[Picked]:
        picked = plan.within(costs, whole, goal * full - rest, solver, failed)
        spent = rest + sum(_spent(plan, costs, whole, picked))
        return Planned(picked, spent / full, tuple(sorted(picked.items())))

    return meet_latency(planned, lambda picked: time_pair(original, build(picked), inputs=inputs), keep)


def _times(plan: Plan, gains: Gains) -> tuple[Floats, list[Floats]]:
    """What units and options take; an option that cannot be timed takes for ever, a unit no time."""
    whole = np.array([t or 0.0 for t in gains.units(plan.units)])
    costs = []
    for unit, table in zip(plan.units, plan.tables, strict=True):
        found = gains.options([(unit, o) for o in table.options])
        costs.append(np.array([np.inf if t is None else t for t in found]))
    return whole, costs


def _spent(plan: Plan, costs: list[Floats], whole: Floats, picked: Picked) -> list[float]:
    found = []
    for k, table in enumerate(plan.tables):
        one = picked.get(k)
        found.append(float(whole[k]) if one is None else float(costs[k][table.options.index(one)]))
    return found
