"""Which option each weight gets: under one limit for all, or each by its own spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...graph.errors import TargetUnreachable
from ...graph.layer import Floats
from ..budget.solvers import SOLVERS, Item
from .candidates import Option
from .gains import Gains
from .losses import Table
from .sites import Unit

Picked = dict[int, Option]
"""Options by the number of their unit; units that are not there stay whole."""
_SMOOTH = 4
"""Ranks that are multiples of so many take longer the higher they are, so a rank that is too slow rules out the rest."""


@dataclass
class Plan:
    """Units, their options, and what is known of them. ``must`` are units that have to become one of their options."""

    units: Sequence[Unit]
    tables: Sequence[Table]
    must: frozenset[int]
    gains: Gains | None
    min_speedup: float
    align: int = 1
    speedups: dict[tuple[int, Option], float | None] = field(default_factory=dict)
    _allowed: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._allowed = [np.isfinite(t.losses) for t in self.tables]

    def within(
        self,
        costs: Sequence[Floats],
        whole: Floats,
        limit: float,
        solver: str,
        failed: Callable[[float], TargetUnreachable],
    ) -> Picked:
        """The options of least loss whose costs stay within a limit, measured to be fast enough.

        Where there are none, ``failed`` makes the error, told what they cost at least. Shapes: ``whole`` (units,) what
        they cost now, ``costs`` one row of options a unit.
        """
        while True:
            items = [self._item(k, costs[k], float(whole[k])) for k in range(len(self.units))]
            try:
                picked = self._picked(SOLVERS[solver](items, limit))
            except TargetUnreachable as error:
                raise failed(self.lowest(costs, whole)) from error
            if self._fast(picked):
                return picked

    def lowest(self, costs: Sequence[Floats], whole: Floats) -> float:
        """The least that all units can cost together."""
        while True:
            items = [self._item(k, costs[k], float(whole[k])) for k in range(len(self.units))]
            choice = [int(np.where(np.isfinite(i.loss), i.cost, np.inf).argmin()) for i in items]
            if self._fast(self._picked(choice)):
                return float(sum(i.cost[c] for i, c in zip(items, choice, strict=True)))

    def each(self, losses: Sequence[Floats], most: float) -> Picked:
        """For every unit the cheapest option that loses no more than ``most``, by its own losses."""
        picked: Picked = {}
        for k, table in enumerate(self.tables):
            order = sorted(range(len(table.options)), key=lambda i: (table.options[i].macs, table.options[i].params))
            for i in order:
                one = table.options[i]
                if (losses[k][i] <= most or k in self.must) and self._fast({k: one}):
                    picked[k] = one
                    break
        return picked

    def reason(self, k: int) -> str:
        """Why a unit with options stays whole."""
        table = self.tables[k]
        measured = [(self.speedups[k, o] or 0.0, o) for o in table.options if (k, o) in self.speedups]
        if measured and not self._allowed[k].any():
            best, one = max(measured, key=lambda pair: pair[0])
            return f"no rank is measured to pay: {one.scheme} at {one.rank} is {best:.2f} times as fast, less than {self.min_speedup:g}"
        return ""

    def _item(self, k: int, costs: Floats, whole: float) -> Item:
        allowed = self._allowed[k]
        stay = np.inf if k in self.must and allowed.any() else 0.0
        losses = np.where(allowed, self.tables[k].losses, np.inf)
        return Item(np.concatenate([[whole], costs]), np.concatenate([[stay], losses]))

    def _picked(self, choice: Sequence[int]) -> Picked:
        return {k: self.tables[k].options[c - 1] for k, c in enumerate(choice) if c}

    def _fast(self, picked: Picked) -> bool:
        """Measure what was picked and rule out what is too slow; whether nothing was. What the user fixed may be slow."""
        if self.gains is None:
            return True
        new = {k: o for k, o in picked.items() if (k, o) not in self.speedups and self._timed(k)}
        found = self.gains.gains([(self.units[k], o) for k, o in new.items()])
        for (k, o), gain in zip(new.items(), found, strict=True):
            self.speedups[k, o] = gain
        fine = True
        for k, o in picked.items():
            gain = self.speedups.get((k, o))
            if gain is None or gain >= self.min_speedup or k in self.must:
                continue
            fine = False
            for i, other in enumerate(self.tables[k].options):
                slower = other.scheme == o.scheme and other.rank >= o.rank and self.align % _SMOOTH == 0
                self._allowed[k][i] &= other != o and not slower
        return fine

    def _timed(self, k: int) -> bool:
        """A table does no arithmetic, so there is no time to gain: it is judged by its size alone."""
        return self.units[k].site.op != "Gather"


def unreachable(
    target: str, keep: float, lowest: float, whole: Sequence[tuple[str, str]], fix: str
) -> TargetUnreachable:
    """``whole`` are names and reasons of layers that stay as they are."""
    reachable = np.ceil(lowest * 100 - 1e-9) / 100
    most = "; ".join(f"{name}: {reason}" for name, reason in list(whole)[:3])
    more = f"; and {len(whole) - 3} more layers" if len(whole) > 3 else ""
    return TargetUnreachable(
        f"target {target}={keep:g} cannot be reached: lowest reachable is {reachable:.2f}",
        why=(most + more) or "the ranks are as low as they can be",
        fix=f"allow more (--{target} {reachable:.2f}){fix}" if reachable < 1 else fix.removeprefix(", "),
    )


def costs_of(options: Sequence[Sequence[Option]], amount: str) -> list[Floats]:
    return [np.array([getattr(o, amount) for o in some], dtype=np.float64) for some in options]


def cheapest(costs: Sequence[Floats], whole: Floats) -> list[int]:
    """Of each unit the option that costs least, -1 where it costs least as it is."""
    return [int(c.argmin()) if c.size and c.min() < w else -1 for c, w in zip(costs, whole, strict=True)]


def count_units(units: Sequence[Unit], amount: str) -> Floats:
    return np.array([getattr(u, amount) for u in units], dtype=np.float64)
