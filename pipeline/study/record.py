"""A trial that is over, and what strategies see of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .objectives import Objective, best
from .space import Space


@dataclass(frozen=True)
class Record:
    """``figures`` are those of a point. A trial that was given up tells why in ``figures["told"]``; ``stopped`` says that it
    had no more than a few samples because others were better on these. ``memo`` is what its strategy wants to know again.
    """

    number: int
    values: Mapping[str, Any]
    figures: Mapping[str, Any]
    stopped: bool = False
    memo: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return not self.stopped and not self.figures.get("told")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Told:
    """All trials so far, in order, and what they are judged by."""

    space: Space
    objectives: Sequence[Objective]
    records: Sequence[Record]
    seed: int = 0

    @property
    def rng(self) -> np.random.Generator:
        """Of the next proposals: the same whenever the same trials are told."""
        return np.random.default_rng([self.seed, len(self.records)])

    @property
    def usable(self) -> list[Record]:
        return [one for one in self.records if one.usable]

    def costs(self, records: Sequence[Record] | None = None) -> np.ndarray:
        """What is to become less. Shapes: (records, objectives)."""
        rows = [[one.cost(r.figures) for one in self.objectives] for r in (self.usable if records is None else records)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives))

    def places(self, records: Sequence[Record] | None = None) -> np.ndarray:
        """Of the values, between 0 and 1. Shapes: (records, parameters)."""
        found = [self.space.places(one.values) for one in (self.usable if records is None else records)]
        return np.array(found).reshape(-1, len(self.space.parameters))

    def front(self) -> list[Record]:
        """Those that nothing beats."""
        usable = self.usable
        return [usable[k] for k in np.flatnonzero(best(self.costs(usable)))]
