"""Random decisions by hypothesis, so that failures shrink; how many, an environment variable says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SCALE = int(os.environ.get("INTAGLIO_FUZZ", "1"))
"""Multiplies the number of random cases: 1 takes half a minute, 100 most of an hour."""


class Drawn:
    """Where a random graph or ledger takes its decisions from."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return int(self._data.draw(st.integers(low, high)))


def profile(examples: int) -> settings:
    """The same cases in every run, unless more are asked for."""
    return settings(
        max_examples=examples * SCALE,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=SCALE == 1,
    )
