"""Meeting a latency target: plan by prediction, measure what comes out, correct the goal, plan again.

A family of passes brings a model of times, from which it plans. All times here are fractions of the original's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ...graph.errors import NothingChanged, TargetUnreachable
from ...measure.run.latency import NOISE, Timing

Choice = TypeVar("Choice")
ROUNDS = 4
"""Most structures that are built and measured."""
_CLOSE = 0.05
"""A result this much faster than asked is not worth another round, as a fraction of what was asked."""


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

    def refusal(self, made: str, *, why: str, fix: str) -> NothingChanged | None:
        """Why a model that came out slower than the original should not be written."""
        if self.verdict != "slower":
            return None
        return NothingChanged(
            f"the {made} model is {self.sentence()}; nothing was written",
            why=why,
            fix=f"ask for a smaller --latency, {fix} all the same with --force",
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "slower"}
        return {**values, "verdict": self.verdict, "missed_by": self.missed_by}


@dataclass(frozen=True)
class Planned(Generic[Choice]):
    """What a family chose, the time it predicts for that, and what tells it from other choices."""

    choice: Choice
    predicted: float
    key: Hashable


@dataclass(frozen=True)
class Attempt(Generic[Choice]):
    """One structure that was built and measured."""

    planned: Planned[Choice]
    timing: Timing

    @property
    def predicted(self) -> float:
        return self.planned.predicted

    @property
    def kept(self) -> float:
        return 1 / self.timing.speedup(1)


def meet_latency(
    plan: Callable[[float], Planned[Choice]],
    time: Callable[[Choice], Timing],
    keep: float,
    *,
    rounds: int = ROUNDS,
) -> tuple[Choice, LatencyReport]:
    """Find a choice that leaves the fraction ``keep`` of the original's measured time.

    Each round plans for a predicted time, measures the original and what was planned (``time``), and corrects the next
    goal by what prediction and measurement differ. Of the results that meet the target the slowest is taken, which has
    lost least; if none does, the fastest.

    Raises:
        TargetUnreachable: the first plan already finds that so little cannot be left.
    """
    attempts: list[Attempt[Choice]] = []
    goal = keep
    for _ in range(rounds):
        try:
            planned = plan(goal)
        except TargetUnreachable:
            if not attempts:
                raise
            goal = (goal + min(a.predicted for a in attempts)) / 2  # less than wanted, yet more than so far
            continue
        if any(a.planned.key == planned.key for a in attempts):
            break  # nothing lies between what was tried
        attempts.append(Attempt(planned, time(planned.choice)))
        if (1 - _CLOSE) * keep <= attempts[-1].kept <= (1 + NOISE) * keep:
            break
        goal = next_goal(keep, attempts)
    best = _best(keep, attempts)
    return best.planned.choice, report(keep, best.predicted, best.timing, rounds=len(attempts))


def report(asked: float, predicted: float, timing: Timing, *, rounds: int = 1) -> LatencyReport:
    """What a measurement says about a target; also for measuring the finished model once more."""
    before, after = (one.median_ms for one in timing.latencies)
    slower = timing.verdict(1) == "slower"
    kept = 1 / timing.speedup(1)
    return LatencyReport(asked, predicted, kept, before, after, rounds, timing.threads, timing.machine, slower)


def next_goal(keep: float, attempts: Sequence[Attempt[Any]]) -> float:
    """The prediction to plan for next.

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


def _best(keep: float, attempts: Sequence[Attempt[Choice]]) -> Attempt[Choice]:
    met = [a for a in attempts if a.kept <= (1 + NOISE) * keep]
    return max(met, key=lambda a: a.kept) if met else min(attempts, key=lambda a: a.kept)
