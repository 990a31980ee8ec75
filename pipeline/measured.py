"""What a change cost, on both models side by side: accuracy and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..graph.model import Model
from ..measure.accuracy import evaluate_model
from ..measure.data.source import DataSource
from ..measure.run.latency import time_pair

if TYPE_CHECKING:
    from ..passes.budget.latency_target import LatencyReport

Tick = Callable[[int, int | None], None]


def accuracies(before: Model, after: Model, source: DataSource, tick: Tick) -> dict[str, dict[str, float]]:
    """Every metric of both models."""
    old = evaluate_model(before, source, tick=tick).values
    return {"before": old, "after": evaluate_model(after, source, tick=tick).values}


def latencies(before: Model, after: Model, seed: int) -> dict[str, Any]:
    """Both models on the same made-up inputs, one thread, run in turn."""
    timing = time_pair(before, after, seed=seed)
    old, new = timing.latencies
    found = {"before": old.median_ms, "after": new.median_ms, "speedup": timing.speedup(1)}
    return {**found, "verdict": timing.verdict(1), "threads": 1, "machine": timing.machine}


def known_latencies(found: LatencyReport) -> dict[str, Any]:
    """The same from what a pass measured to meet its target."""
    times = {"before": found.before_ms, "after": found.after_ms, "speedup": 1 / found.kept}
    return {**times, "verdict": found.verdict, "threads": found.threads, "machine": found.machine}
