"""How long whole models take, in the unit in which single operators are timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...graph.model import Model
from ..run.session import open_session
from .probe import NOTHING, feeds_of, open_layer, time_runs

Inputs = Mapping[str, np.ndarray]
_WHOLE_S, _WHOLE_ROUNDS = 0.4, (5, 80)


@dataclass(frozen=True)
class Wholes:
    """Times of whole models in runs of the reference, what an empty run takes, and what a reference run takes."""

    relative: list[float]
    empty: float
    reference_ms: float


def time_wholes(models: Sequence[Model], inputs: Inputs, threads: int) -> Wholes:
    """Measure models in turn on the same inputs."""
    sessions = [*(open_session(m, threads=threads, spin=False) for m in models), open_layer(NOTHING, 1, threads)]
    feeds = [*([inputs] * len(models)), feeds_of(NOTHING, 1)]
    runs = time_runs(sessions, feeds, threads, budget_s=_WHOLE_S, rounds=_WHOLE_ROUNDS)
    *relative, empty = runs.relative.tolist()
    return Wholes(relative, empty, runs.reference_ms)
