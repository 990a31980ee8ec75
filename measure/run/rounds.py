"""Sessions timed in turn, fairly and undisturbed as far as that goes on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .session import fed, run_error

_WARM_UP = 2
_QUICK_S = 1e-3
"""A run shorter than this suffers from what ran before it, so it runs twice and the second time counts."""
_QUIET, _POLISH = 0.25, 4
"""The quantile that stands for an undisturbed run, and how often rounds and sessions are set against each other."""
_FINE_S = 1e-6


def time_rounds(
    sessions: Sequence[Any],
    feeds: Sequence[Mapping[str, np.ndarray]],
    threads: int,
    *,
    budget_s: float,
    rounds: tuple[int, int],
) -> np.ndarray:
    """Run sessions in turn for about ``budget_s`` seconds each, and as many rounds as ``rounds`` allows.

    With one thread that thread's processor time counts, which other programs do not lengthen. Shapes: (rounds,
    sessions). Units: seconds.
    """
    inputs = [fed(session, feed) for session, feed in zip(sessions, feeds, strict=True)]
    clock = _clock(threads)
    for _ in range(_WARM_UP):
        warm = [timed(session, feed, clock) for session, feed in zip(sessions, inputs, strict=True)]
    quick = [t < _QUICK_S for t in warm]
    cost = sum(t * (1 + again) for t, again in zip(warm, quick, strict=True))
    count = int(np.clip(budget_s * len(sessions) / max(cost, 1e-9), *rounds))
    times = np.zeros((count, len(sessions)))
    for r in range(count):
        for i in turn(len(sessions), r):
            if quick[i]:
                sessions[i].run(None, inputs[i])
            times[r, i] = timed(sessions[i], inputs[i], clock)
    return times


def turn(count: int, round_: int) -> range:
    """The order of one round: forwards or backwards, so that no session always runs in the wake of the same other."""
    return range(count) if round_ % 2 else range(count)[::-1]


def _clock(threads: int) -> Callable[[], float]:
    """A clock that, if it can, stands still while other programs have the processor."""
    fine = time.get_clock_info("thread_time").resolution <= _FINE_S if hasattr(time, "thread_time") else False
    return time.thread_time if threads == 1 and fine else time.perf_counter


def timed(session: Any, feed: dict[str, np.ndarray], clock: Callable[[], float]) -> float:
    """Seconds of one run. Raises BadModel where it fails."""
    started = clock()
    try:
        session.run(None, feed)
    except Exception as error:
        raise run_error(error, feed) from error
    return clock() - started


def typical_times(times: np.ndarray) -> np.ndarray:
    """One time per session, as if all rounds had met the machine in the same mood and nothing else had run.

    A mood multiplies all times of a round; what else runs adds to some. So this is a polish of the logarithms as
    Tukey's ("Exploratory Data Analysis", 1977), by lower quartiles in the place of medians.
    Shapes: (rounds, sessions) -> (sessions,).
    """
    logs = np.log(np.maximum(times, 1e-9))
    own = np.quantile(logs, _QUIET, axis=0)
    mood = np.zeros(len(logs))
    for _ in range(_POLISH):
        mood = np.quantile(logs - own, _QUIET, axis=1)
        own = np.quantile(logs - mood[:, None], _QUIET, axis=0)
    return np.asarray(np.exp(own + np.median(mood)))
