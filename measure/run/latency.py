"""How long one run takes: one model, or several measured in turn so that the machine's moods hit all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.model import Model
from .inputs import runnable_inputs
from .rounds import time_rounds, timed, turn
from .running import Tick
from .session import fed, open_session, run

WARM_UP_RUNS = 5
LEAST_RUNS = 20
_PAIR_S, _PAIR_MOST_RUNS = 0.4, 2000
NOISE = 0.03
"""Differences of medians below this are not told as faster or slower: two runs of one file differ as much."""


@dataclass(frozen=True)
class Latency:
    """Times of one model. Units: milliseconds."""

    median_ms: float
    p90_ms: float
    min_ms: float
    runs: int


@dataclass(frozen=True)
class Timing:
    """Times of several models, run for run, and where they were taken.

    ``times_ms`` has one row per model and one column per round, in which every model ran once.
    """

    times_ms: np.ndarray
    threads: int
    machine: str

    @property
    def latencies(self) -> list[Latency]:
        return [
            Latency(float(np.median(row)), float(np.percentile(row, 90)), float(row.min()), len(row))
            for row in self.times_ms
        ]

    def speedup(self, model: int, base: int = 0) -> float:
        """How many times faster a model is than the base: the median over rounds, which cancels slow drifts."""
        return float(np.median(self.times_ms[base] / self.times_ms[model]))

    def verdict(self, model: int, base: int = 0) -> str:
        """``faster``, ``slower``, or ``same`` where the difference does not stand out of the noise.

        The share of rounds that a model wins must lie three standard errors of a coin toss from one half.
        """
        ratio = self.times_ms[model] / self.times_ms[base]
        typical, lead = float(np.median(ratio)), float((ratio < 1).mean()) - 0.5
        if abs(lead) < max(0.1, 1.5 / len(ratio) ** 0.5) or abs(typical - 1) < NOISE:
            return "same"
        return "faster" if typical < 1 else "slower"


def time_sessions(
    sessions: Sequence[Any],
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    threads: int,
    runs: int | None = None,
    seconds: float = 2.0,
    tick: Tick | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Run all sessions in turn, after a warm-up, and note each time.

    ``runs`` rounds, or else as many as fit into ``seconds`` per session, at least ``LEAST_RUNS``. Each round turns
    the order round, so that no session always runs in the wake of the same other. ``threads`` is what the sessions
    were opened with; it is recorded.
    """
    feeds = [fed(session, i) for session, i in zip(sessions, inputs, strict=True)]
    for session, feed in zip(sessions, feeds, strict=True):
        for _ in range(WARM_UP_RUNS):
            run(session, feed)
    end = time.perf_counter() + seconds * len(sessions)
    rounds: list[list[float]] = []
    while len(rounds) < (runs or LEAST_RUNS) or (runs is None and time.perf_counter() < end):
        times = [0.0] * len(sessions)
        for i in turn(len(sessions), len(rounds) + 1):
            times[i] = timed(sessions[i], feeds[i], clock)
        rounds.append(times)
        if tick:
            tick(len(rounds), runs)
    return Timing(np.array(rounds).T * 1e3, threads, machine())


def time_pair(
    before: Model, after: Model, threads: int = 1, *, seed: int = 0, inputs: Mapping[str, np.ndarray] | None = None
) -> Timing:
    """Time two models in turn on the same inputs, made up if none are given."""
    feed = inputs if inputs is not None else runnable_inputs(before, seed=seed, batches=(1, 2))
    return time_models([before, after], threads, inputs=feed)


def time_models(models: Sequence[Any], threads: int = 1, *, inputs: Mapping[str, np.ndarray]) -> Timing:
    """Time models, or sessions on them, in turn on the same inputs.

    With one thread that thread's processor time counts, which other programs on the machine do not lengthen.
    """
    sessions = [open_session(m, threads=threads, spin=False) if isinstance(m, Model) else m for m in models]
    feeds = [inputs] * len(sessions)
    times = time_rounds(sessions, feeds, threads, budget_s=_PAIR_S, rounds=(LEAST_RUNS, _PAIR_MOST_RUNS))
    return Timing(times.T * 1e3, threads, machine())


def machine() -> str:
    """The processor, how many of its cores this process may use, and the runtime."""
    import onnxruntime

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}, onnxruntime {onnxruntime.__version__}"


def crowd() -> str:
    """How many programs ran here in the last minute, if that is more than there are cores for; else empty.

    Processor time is no shield against them: they take caches and bandwidth.
    """
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f"{load:.0f} programs ran on {cores} core{'s' if cores > 1 else ''}" if load > cores + 1 else ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for text in info.read_text(errors="replace").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()
