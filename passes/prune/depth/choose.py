"""Which branches go: those that the outputs miss least for what they cost, one after the other."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ....graph.errors import TargetUnreachable
from ....graph.model import Model
from ...calibration.effects import Effects
from ...calibration.journal import Journal, once
from .branches import Branch, dropped

Cost = Callable[[Model], float]


@dataclass
class Choosing:
    """``loss`` is the squared error of the outputs, relative to their variance, without some branches.

    What the ``journal`` has of it is taken from there.
    """

    model: Model
    found: Sequence[Branch]
    effects: Effects
    tick: Callable[[int, int | None], None]
    journal: Journal | None = None
    losses: dict[frozenset[str], float] = field(default_factory=dict)

    def loss(self, gone: Sequence[Branch]) -> float:
        key = frozenset(one.total for one in gone)
        if not key:
            return 0.0
        if key not in self.losses:
            name = "\n".join(sorted(key))
            self.losses[key] = once(self.journal, name, partial(self._measured, gone))
            self.tick(len(self.losses), None)
        return self.losses[key]

    def _measured(self, gone: Sequence[Branch]) -> float:
        return self.effects.of_model(dropped(self.model, gone))

    def choose(self, most: float, cost: Cost, gain: Callable[[Branch], float]) -> list[Branch]:
        """Drop until no more than ``most`` is left, then put back what the outputs miss most, as far as that allows.

        A branch is looked at anew only when, by what it cost before others had gone, it is next: what goes first
        seldom makes the others matter less.

        Raises:
            TargetUnreachable: so little cannot be left.
        """
        gone: list[Branch] = []
        queue = [(self.loss([one]) / max(gain(one), 1e-30), k, 0) for k, one in enumerate(self.found)]
        heapq.heapify(queue)
        while cost(dropped(self.model, gone)) > most:
            if not queue:
                raise TargetUnreachable(
                    "the target asks for more than the branches of residual sums have",
                    why=f"{len(self.found)} of them can go, and {cost(dropped(self.model, gone)):,.0f} is left then",
                    fix="ask for less, or thin layers too: --axis width",
                )
            _, k, seen = heapq.heappop(queue)
            one = self.found[k]
            if seen < len(gone):
                grown = self.loss([*gone, one]) - self.loss(gone)
                heapq.heappush(queue, (grown / max(gain(one), 1e-30), k, len(gone)))
                continue
            gone.append(one)
        return self._put_back(gone, most, cost)

    def _put_back(self, gone: list[Branch], most: float, cost: Cost) -> list[Branch]:
        for one in list(gone):
            left = [other for other in gone if other is not one]
            if left and cost(dropped(self.model, left)) <= most and self.loss(left) < self.loss(gone):
                gone = left
        return gone
