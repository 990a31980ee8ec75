"""A study: trials proposed in batches, measured wherever they run, told in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...measure.executors.executor import Executor
from .objectives import Objective, crowding, ranks
from .record import Record, Told
from .space import Space
from .storage import Storage
from .strategies.strategy import Proposal, Strategy
from .trial import FUNCTION, Given, task_of

RUNG = 0.25
"""The part of the samples on which hopeless trials are told from others."""


@dataclass(frozen=True)
class Study:
    """What is proposed hangs on what was told, not on workers: a batch is of a fixed size, and told in its order.

    With ``halving`` all of a batch are first tried on few samples, and the better half of them on all.
    """

    given: Given
    space: Space
    objectives: Sequence[Objective]
    strategy: Strategy
    storage: Storage
    executor: Executor
    batch: int = 16
    seed: int = 0
    halving: bool = False
    tick: Callable[[int, int | None], None] = field(default=lambda done, total: None)

    def run(self, trials: int) -> list[Record]:
        """All records, once there are so many, or the strategy has no more to try. A study that was ended goes on."""
        records = self.storage.read()
        while len(records) < trials:
            began = len(records) // self.batch * self.batch
            told = Told(self.space, self.objectives, records[:began], self.seed)
            proposals = list(self.strategy(told, self.batch))[len(records) - began : trials - began]
            if not proposals:
                break
            for record in self._measured(proposals, len(records)):
                self.storage.add([record])
                records.append(record)
                self.tick(len(records), trials)
        return records[:trials]

    def _measured(self, proposals: Sequence[Proposal], first: int) -> Iterator[Record]:
        hopeless = self._hopeless(proposals) if self.halving else {}
        going = [one for place, one in enumerate(proposals) if place not in hopeless]
        figures = self._figures(going, self.given)
        for place, one in enumerate(proposals):
            stopped = place in hopeless
            found = hopeless[place] if stopped else next(figures)
            yield Record(first + place, dict(one.values), found, stopped, dict(one.memo))

    def _hopeless(self, proposals: Sequence[Proposal]) -> dict[int, Mapping[str, Any]]:
        """The worse half on few samples, with what they had there.

        Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016, arXiv:1502.07943
        (successive halving); better is meant as in NSGA-II, as there are several objectives.
        """
        found = list(self._figures(proposals, self.given.less(RUNG)))
        records = [
            Record(place, one.values, told) for place, (one, told) in enumerate(zip(proposals, found, strict=True))
        ]
        costs = Told(self.space, self.objectives, records).costs(records)
        rank, far = ranks(costs), np.zeros(len(costs))
        for one in np.unique(rank):
            far[rank == one] = crowding(costs[rank == one])
        order = np.lexsort([-far, rank])
        return {place: found[place] for place in order[(len(order) + 1) // 2 :].tolist()}

    def _figures(self, proposals: Sequence[Proposal], given: Given) -> Iterator[Mapping[str, Any]]:
        tasks = [task_of(given, self.space.passes(one.values)) for one in proposals]
        for outcome in self.executor.each(FUNCTION, tasks):
            yield {"told": outcome.lost} if outcome.lost else outcome.value
