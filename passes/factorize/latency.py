"""Meeting a time: plan with the times of single nodes, measure what comes out, correct the goal, plan again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...graph.errors import TargetUnreachable
from ...graph.layer import Floats
from ...graph.model import Model
from ...measure.run.inputs import runnable_inputs
from ...measure.run.latency import NOISE
from ..prune.latency.goal import ROUNDS, LatencyReport, Timed, measured, report
from ..prune.latency.model import time_wholes
from .gains import Gains
from .plan import Picked, Plan, unreachable

_CLOSE = 0.05
"""A result this much faster than asked is not worth another round, as a fraction of what was asked."""


@dataclass(frozen=True)
class _Attempt:
    picked: Picked
    predicted: float
    timed: Timed

    @property
    def kept(self) -> float:
        return 1 / self.timed[2].speedup(1)


def meet(
    plan: Plan, gains: Gains, original: Model, build: Callable[[Picked], Model], keep: float, solver: str
) -> tuple[Picked, LatencyReport]:
    """The options of least loss that leave the fraction ``keep`` of the original's measured time, one thread.

    Of the results that meet the target the slowest is taken, which has lost least; if none does, the fastest.

    Raises:
        TargetUnreachable: no choice is predicted to be so fast.
    """
    whole, costs = _times(plan, gains)
    inputs = runnable_inputs(original, batches=(1, 2))
    full = time_wholes([original], inputs, 1).relative[0]
    full = max(full, float(whole.sum()))
    rest = full - float(whole.sum())
    attempts: list[_Attempt] = []
    goal = keep
    for _ in range(ROUNDS):
        try:
            picked = plan.within(costs, whole, goal * full - rest, solver)
        except TargetUnreachable as error:
            if attempts:
                break
            lowest = (rest + plan.lowest(costs, whole)) / full
            raise unreachable("latency", keep, lowest, [], ", lower --align or --min-gain") from error
        if not picked or any(a.picked == picked for a in attempts):
            break
        spent = rest + sum(_spent(plan, costs, whole, picked))
        attempts.append(_Attempt(picked, spent / full, measured(original, build(picked), inputs=inputs)))
        if (1 - _CLOSE) * keep <= attempts[-1].kept <= (1 + NOISE) * keep:
            break
        goal = float(np.clip(attempts[-1].predicted * keep / attempts[-1].kept, 1e-6, 1.0))
    if not attempts:
        return {}, report(keep, 1.0, measured(original, original, inputs=inputs))
    met = [a for a in attempts if a.kept <= (1 + NOISE) * keep]
    best = max(met, key=lambda a: a.kept) if met else min(attempts, key=lambda a: a.kept)
    return best.picked, report(keep, best.predicted, best.timed, rounds=len(attempts))


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
