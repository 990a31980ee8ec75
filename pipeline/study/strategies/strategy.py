"""What a way of choosing trials is: a function of all that is known to the next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....graph.registry import Registry
from ..record import Told


@dataclass(frozen=True)
class Proposal:
    """Values of all parameters; ``memo`` is told again with the trial."""

    values: Mapping[str, Any]
    memo: Mapping[str, Any] = field(default_factory=dict)


Strategy = Callable[[Told, int], Sequence[Proposal]]
"""Told all trials, proposes at most so many more; none where it has no more to try. The same of the same."""
STRATEGIES: Registry[Strategy] = Registry("strategy", "intaglio.strategies", "intaglio.pipeline.study.strategies")

_ALIKE = (0.99, 0.01, 0.5, 0.3, 0.7)
"""Places of recipes in which all parameters stand alike: what one pass with one setting does."""


def alike(told: Told) -> list[Proposal]:
    """The first proposals of strategies that start from what is known to be of use: those that were not made yet."""
    count = len(told.space.parameters)
    return [Proposal(told.space.values(np.full(count, at))) for at in _ALIKE[len(told.records) :]]


def spread(told: Told, count: int) -> list[Proposal]:
    """Drawn evenly from the whole space; as many as are asked for."""
    rng = told.rng
    return [Proposal(told.space.values(rng.random(len(told.space.parameters)))) for _ in range(count)]
