"""A strategy: values spread more evenly than by chance."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import qmc

from intaglio.pipeline.study.record import Told
from intaglio.pipeline.study.strategies.strategy import Proposal


def halton(told: Told, count: int) -> Sequence[Proposal]:
    """Points of the Halton sequence."""
    sequence = qmc.Halton(len(told.space.parameters), seed=told.seed)
    return [Proposal(told.space.values(row)) for row in sequence.random(len(told.records) + count)[-count:]]
