"""Things measured in turn, in processor time, so that what else a shared machine does hits all of them alike.

Everything must run in the calling thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Run = Callable[[], object]
SAMPLE_S = 1.5e-3
"""A sample is as many runs in a row as take about this long."""
WARM_UP = 3


class Times:
    """Seconds of one run, by name and round: median times, and medians of ratios taken round by round."""

    def __init__(self, by_name: Mapping[str, np.ndarray]) -> None:
        self._by_name = by_name

    def median_s(self, name: str) -> float:
        return float(np.median(self._by_name[name]))

    def faster(self, name: str, than: str) -> float:
        """How many times faster one is than another."""
        return float(np.median(self._by_name[than] / self._by_name[name]))

    @property
    def names(self) -> list[str]:
        return list(self._by_name)


def in_turn(runs: Mapping[str, Run], rounds: int) -> Times:
    """Time all of them ``rounds`` times, each round in the opposite order of the one before."""
    counts = {name: _repeats(run) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    names: Sequence[str] = list(runs)
    for turn in range(rounds):
        for name in names if turn % 2 else reversed(names):
            run, count = runs[name], counts[name]
            run()  # its data are in the caches, as in a network that runs again and again
            began = time.thread_time()
            for _ in range(count):
                run()
            found[name].append((time.thread_time() - began) / count)
    return Times({name: np.array(values) for name, values in found.items()})


def _repeats(run: Run) -> int:
    for _ in range(WARM_UP):
        run()
    began = time.thread_time()
    run()
    return max(1, round(SAMPLE_S / max(time.thread_time() - began, 1e-7)))
