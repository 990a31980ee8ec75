"""Meeting a latency target: plan by prediction, measure what comes out, correct the goal, plan again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....graph.coupling import Removal, remove
from ....graph.errors import TargetUnreachable
from ....graph.model import Model
from ....measure.optime.rounds import time_rounds
from ....measure.run.inputs import runnable_inputs
from ....measure.run.latency import LEAST_RUNS, NOISE, Timing, machine
from ....measure.run.session import open_session
from .model import LatencyModel

Plan = Callable[[float], Removal]
"""Gives a removal of which the prediction is at most so many milliseconds; raises TargetUnreachable if there is none."""
Timed = tuple[float, float, Timing]
ROUNDS = 4
"""Most structures that are built and measured."""
_CLOSE = 0.05
"""A result this much faster than asked is not worth another round, as a fraction of what was asked."""
_BUDGET_S, _MOST_RUNS = 0.4, 2000


@dataclass(frozen=True)
class LatencyReport:
    """What was asked, predicted and measured. ``asked``, ``predicted`` and ``kept`` are fractions of the original's time."""

    asked: float
    predicted: float
    kept: float
    before_ms: float
    after_ms: float
    rounds: int
    threads: int
    machine: str
    slower: bool

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``slower`` than the original; differences within the noise count as met."""
        if self.slower:
            return "slower"
        return "met" if self.missed_by <= NOISE * self.asked else "missed"

    @property
    def missed_by(self) -> float:
        """How much more of the original's time is left than was asked for; 0 where less is."""
        return max(0.0, self.kept - self.asked)

    def sentence(self) -> str:
        """The outcome in one line."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        times = f"{self.after_ms:.3g} ms against {self.before_ms:.3g} ms, {threads}"
        if self.verdict == "slower":
            return f"slower than the original: {self.kept:.1%} of its time ({times})"
        told = f"{self.kept:.1%} of the time is left, {self.asked:.1%} was asked ({times})"
        by = f" by {100 * self.missed_by:.1f} points" if self.verdict == "missed" else ""
        return f"latency target {self.verdict}{by}: {told}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "slower"}
        return {**values, "verdict": self.verdict, "missed_by": self.missed_by}


@dataclass(frozen=True)
class Attempt:
    """One structure that was built and measured; fractions of the original's time."""

    removal: Removal
    predicted: float
    kept: float
    timed: Timed


def measured(
    original: Model,
    candidate: Model,
    threads: int = 1,
    seed: int = 0,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
) -> Timed:
    """Time two models in turn on the same made-up inputs: the milliseconds of each, and all times.

    With one thread that thread's processor time counts, which other programs on the machine do not lengthen.
    """
    feed = inputs if inputs is not None else runnable_inputs(original, seed=seed, batches=(1, 2))
    sessions = [open_session(m, threads=threads, spin=False) for m in (original, candidate)]
    times = time_rounds(sessions, [feed, feed], threads, budget_s=_BUDGET_S, rounds=(LEAST_RUNS, _MOST_RUNS))
    timing = Timing(times.T * 1e3, threads, machine())
    before, after = timing.latencies
    return before.median_ms, after.median_ms, timing


def meet_latency(
    plan: Plan,
    model: LatencyModel,
    keep: float,
    *,
    rounds: int = ROUNDS,
    time: Callable[[Model, Model], Timed] | None = None,
) -> tuple[Removal, LatencyReport]:
    """Find a removal that leaves the fraction ``keep`` of the original's measured time.

    Each round plans for a predicted time, removes the channels (what the weights are does not matter), measures, and
    corrects the next goal by what prediction and measurement differ. Of the results that meet the target the slowest
    is taken, which has lost least; if none does, the fastest. ``time`` measures the original and a candidate.

    Raises:
        TargetUnreachable: the first plan already finds that so little cannot be left.
    """
    original = model.coupling.original
    time = time or (lambda a, b: measured(a, b, model.threads, inputs=model.inputs))
    attempts: list[Attempt] = []
    goal = keep
    for _ in range(rounds):
        try:
            removal = plan(goal * model.full)
        except TargetUnreachable:
            if not attempts:
                raise
            goal = (goal + min(a.predicted for a in attempts)) / 2  # less than wanted, yet more than so far
            continue
        if any((a.removal.removed == removal.removed).all() for a in attempts):
            break  # nothing lies between what was tried
        timed = time(original, remove(removal))
        attempts.append(Attempt(removal, model.after(removal) / model.full, _kept(timed), timed))
        if (1 - _CLOSE) * keep <= attempts[-1].kept <= (1 + NOISE) * keep:
            break
        goal = next_goal(keep, attempts)
    best = _best(keep, attempts)
    return best.removal, report(keep, best.predicted, best.timed, rounds=len(attempts))


def report(asked: float, predicted: float, timed: Timed, *, rounds: int = 1) -> LatencyReport:
    """What a measurement says about a target; also for measuring the finished model once more."""
    before_ms, after_ms, timing = timed
    slower = timing.verdict(1) == "slower"
    return LatencyReport(
        asked, predicted, _kept(timed), before_ms, after_ms, rounds, timing.threads, timing.machine, slower
    )


def next_goal(keep: float, attempts: Sequence[Attempt]) -> float:
    """The prediction to plan for next, a fraction of the original's time.

    Between one attempt that was too slow and one that was fast enough it lies where a line through both says, else
    the last prediction is corrected by the last measurement.
    """
    slow = [a for a in attempts if a.kept > keep]
    fast = [a for a in attempts if a.kept <= keep]
    last = attempts[-1]
    goal = last.predicted * keep / last.kept
    if slow and fast:
        above, below = min(slow, key=lambda a: a.kept), max(fast, key=lambda a: a.kept)
        if above.predicted > below.predicted:
            part = (keep - below.kept) / (above.kept - below.kept)
            goal = below.predicted + part * (above.predicted - below.predicted)
    return float(np.clip(goal, 1e-6, 1.0))


def _kept(timed: Timed) -> float:
    return 1 / timed[2].speedup(1)


def _best(keep: float, attempts: Sequence[Attempt]) -> Attempt:
    met = [a for a in attempts if a.kept <= (1 + NOISE) * keep]
    return max(met, key=lambda a: a.kept) if met else min(attempts, key=lambda a: a.kept)
