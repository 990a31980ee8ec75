"""Choose one option per item so that the costs stay within a limit and the losses sum to the least.

A multiple-choice knapsack: items are layers or groups, options their widths, ranks or bit widths. Both solvers see
an item by its *front*, the options that no other beats in cost and loss, and by the lower convex *hull* of that front,
on which the problem with fractions of options is solved by taking steps in order of loss saved per cost.

Source: Sinha & Zoltners, "The Multiple-Choice Knapsack Problem", Operations Research 27(3), 1979 (fronts, hulls, the
bound); Aflalo et al., "Knapsack Pruning with Inner Distillation", 2020, arXiv:2002.08258 (use in pruning).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ...graph.errors import TargetUnreachable
from ...graph.registry import Registry

Floats = NDArray[np.float64]
IntArray = NDArray[np.intp]

_ROUNDING = 1e-12
"""Sums of floats are no more exact than this: a limit exceeded by this fraction counts as met."""


@dataclass(frozen=True, eq=False)
class Item:
    """What there is to choose from. Shapes: (options,) each, in any order; an infinite loss or cost forbids an option."""

    cost: np.ndarray
    loss: np.ndarray

    def __post_init__(self) -> None:
        if self.cost.ndim != 1 or self.cost.shape != self.loss.shape or not self.cost.size:
            raise ValueError(
                f"an item needs one cost and one loss per option, not {self.cost.shape}, {self.loss.shape}"
            )
        if np.isnan(self.cost).any() or np.isnan(self.loss).any() or min(self.cost.min(), self.loss.min()) == -np.inf:
            raise ValueError("costs and losses must be numbers, and not minus infinity")


Solver = Callable[[Sequence[Item], float], list[int]]

SOLVERS: Registry[Solver] = Registry("budget solver", "intaglio.solvers")


def solve_exact(items: Sequence[Item], limit: float, *, cells: int = 4000) -> list[int]:
    """The choice of least loss, by dynamic programming over costs.

    Partial choices that cannot become better than the greedy one are dropped, by the bound of the hulls. Only where
    more than a few times ``cells`` are left, one of each of ``cells`` equal ranges of cost goes on; costs stay exact,
    so the result is then at least as good as the best for a limit lower by one range per item. It is the best where
    costs are multiples of one number and the limit is fewer than ``cells`` of it above the cheapest options' sum.

    Raises:
        TargetUnreachable: the cheapest options together cost more than the limit.
    """
    problem = _Problem(items, limit)
    start = problem.greedy()
    best = _search(problem, problem.loss(start), cells)
    candidates = [start] if best is None else [problem.spend(best), start]
    return problem.answer(min(candidates, key=problem.loss))


def solve_greedy(items: Sequence[Item], limit: float) -> list[int]:
    """From the options of least loss down the hulls, by least loss per cost saved, until the limit holds.

    What is left of the limit is spent on single changes, the most helpful first.

    Raises:
        TargetUnreachable: the cheapest options together cost more than the limit.
    """
    problem = _Problem(items, limit)
    return problem.answer(problem.greedy())


class Knapsack(BaseModel):
    """Options of ``knapsack``."""

    cells: int = Field(default=4000, ge=1, description="ranges of cost that are told apart where choices are very many")


@SOLVERS.register("knapsack", options=Knapsack)
def knapsack(items: Sequence[Item], limit: float, options: Knapsack) -> list[int]:
    """The choice of least loss, by dynamic programming over costs."""
    return solve_exact(items, limit, cells=options.cells)


SOLVERS.register("greedy")(solve_greedy)


@dataclass(frozen=True)
class _Front:
    """The options worth having: costs rise from 0, losses fall to 0. ``option`` is their place in the item."""

    option: IntArray
    cost: Floats
    loss: Floats
    hull: IntArray


class _Problem:
    """Fronts of all items, and the room above their cheapest options. A choice is one place per front."""

    def __init__(self, items: Sequence[Item], limit: float) -> None:
        for number, item in enumerate(items):
            if not _allowed(item).any():
                raise TargetUnreachable(
                    f"item {number} has no option that is allowed", why="all its losses are infinite"
                )
        least = math.fsum(item.cost[_allowed(item)].min() for item in items)
        slack = _ROUNDING * max(abs(limit), abs(least)) if math.isfinite(limit) else 0.0
        if not least <= limit + slack:
            raise TargetUnreachable(
                f"the cheapest options cost {least:g} together, more than the limit {limit:g}",
                fix=f"allow {least:g}, or give more items or cheaper options to choose from",
            )
        self.room = max(0.0, limit - least) + slack
        self.fronts = [_front(item) for item in items]

    def answer(self, choice: Sequence[int]) -> list[int]:
        return [int(f.option[c]) for f, c in zip(self.fronts, choice, strict=True)]

    def cost(self, choice: Sequence[int]) -> float:
        return math.fsum(f.cost[c] for f, c in zip(self.fronts, choice, strict=True))

    def loss(self, choice: Sequence[int]) -> float:
        return math.fsum(f.loss[c] for f, c in zip(self.fronts, choice, strict=True))

    def greedy(self) -> list[int]:
        steps = _steps(self.fronts)
        saved = np.concatenate([[0.0], np.cumsum(steps.cost)])
        needed = math.fsum(f.cost[-1] for f in self.fronts) - self.room
        taken = int(np.searchsorted(saved, needed))
        choice = [len(f.cost) - 1 for f in self.fronts]
        # Rounding of the running sum may have stopped one step early.
        for k in range(len(steps.cost)):
            if k >= taken and self.cost(choice) <= self.room:
                break
            choice[steps.item[k]] = min(choice[steps.item[k]], int(steps.to[k]))
        return self.spend(choice)

    def spend(self, choice: Sequence[int]) -> list[int]:
        """Change one item at a time, what saves most loss, while there is room."""
        choice = list(choice)
        while True:
            room = self.room - self.cost(choice)
            best, most = None, 0.0
            for i, (front, c) in enumerate(zip(self.fronts, choice, strict=True)):
                to = int(np.searchsorted(front.cost, front.cost[c] + room, side="right")) - 1
                if to > c and front.loss[c] - front.loss[to] > most:
                    best, most = (i, to), float(front.loss[c] - front.loss[to])
            if best is None:
                return choice
            choice[best[0]] = best[1]


@dataclass(frozen=True)
class _Steps:
    """Steps down the hulls of some items, the least loss per cost saved first. ``to`` is where in its front one ends."""

    item: IntArray
    to: IntArray
    cost: Floats
    loss: Floats


def _allowed(item: Item) -> NDArray[np.bool_]:
    return np.isfinite(item.loss) & np.isfinite(item.cost)


def _front(item: Item) -> _Front:
    option = np.flatnonzero(_allowed(item))
    cost, loss = item.cost[option].astype(np.float64), item.loss[option].astype(np.float64)
    cost, loss = cost - cost.min(), loss - loss.min()
    order = np.lexsort((loss, cost))
    order = order[_falls(loss[order])]
    cost, loss = cost[order], loss[order]
    return _Front(option[order], cost, loss, _hull(cost, loss))


def _falls(loss: Floats) -> NDArray[np.bool_]:
    """Which losses are lower than all before."""
    return np.concatenate([[True], loss[1:] < np.minimum.accumulate(loss)[:-1]])


def _hull(cost: Floats, loss: Floats) -> IntArray:
    """Places on the lower convex hull of a front."""
    kept: list[int] = []
    if len(cost) > 1:  # both from 0 to 1, for products that neither overflow nor vanish
        cost, loss = cost / cost[-1], loss / loss[0]
    for k in range(len(cost)):
        while len(kept) > 1 and _above(cost, loss, kept[-2], kept[-1], k):
            kept.pop()
        kept.append(k)
    return np.array(kept, dtype=np.intp)


def _above(cost: Floats, loss: Floats, a: int, b: int, c: int) -> bool:
    """Whether point ``b`` is on or above the line from ``a`` to ``c``."""
    return bool((loss[b] - loss[a]) * (cost[c] - cost[a]) >= (loss[c] - loss[a]) * (cost[b] - cost[a]))


def _steps(fronts: Sequence[_Front]) -> _Steps:
    """The steps of all fronts; those of one front keep their order, from its last option to its first."""
    item = np.repeat(np.arange(len(fronts)), [len(f.hull) - 1 for f in fronts])
    to = [f.hull[-2::-1] for f in fronts]
    cost = [-np.diff(f.cost[f.hull[::-1]]) for f in fronts]
    loss = [np.diff(f.loss[f.hull[::-1]]) for f in fronts]
    costs, losses = np.concatenate([np.empty(0), *cost]), np.concatenate([np.empty(0), *loss])
    with np.errstate(over="ignore"):
        order = np.argsort(losses / costs, kind="stable")
    return _Steps(item[order], np.concatenate([_NOTHING, *to])[order], costs[order], losses[order])


_NOTHING: IntArray = np.empty(0, dtype=np.intp)


def _bound(fronts: Sequence[_Front]) -> tuple[Floats, Floats]:
    """The least loss that fractions of options reach, as corners (room, loss) with rising room."""
    steps = _steps(fronts)
    loss = np.concatenate([[0.0], np.cumsum(steps.loss)])[::-1]
    room = np.concatenate([[0.0], np.cumsum(steps.cost[::-1])])
    return room, loss


def _search(problem: _Problem, known: float, cells: int) -> list[int] | None:
    """A choice at least as good as the known loss; None if ranges of cost hid it.

    Partial choices are a front, too: costs rise, losses fall. Each item makes a new front from all sums.
    """
    cost, loss = np.zeros(1), np.zeros(1)
    enough = known * (1 + _ROUNDING)
    trail: list[tuple[IntArray, IntArray]] = []
    for number, front in enumerate(problem.fronts):
        costs, losses = np.add.outer(front.cost, cost).ravel(), np.add.outer(front.loss, loss).ravel()
        bound = losses + np.interp(problem.room - costs, *_bound(problem.fronts[number + 1 :]))
        hopeful = np.flatnonzero((costs <= problem.room) & (bound <= enough))
        if not hopeful.size:
            return None
        kept = hopeful[_best(costs[hopeful], losses[hopeful], cells)]
        trail.append((kept // len(cost), kept % len(cost)))
        cost, loss = costs[kept], losses[kept]
    choice: list[int] = []
    at = len(loss) - 1
    for options, parents in reversed(trail):
        choice.append(int(options[at]))
        at = int(parents[at])
    return choice[::-1]


_UNTHINNED = 4
"""Times ``cells`` that are sorted as they are: sorting costs more than thinning."""


def _best(cost: Floats, loss: Floats, cells: int) -> IntArray:
    """Places of the partial choices that no other beats, by rising cost; thinned out where there are very many."""
    places = np.arange(len(cost))
    if len(cost) > _UNTHINNED * cells:
        places = _thinned(cost, loss, cells)
    places = places[np.argsort(cost[places], kind="stable")]
    return places[_falls(loss[places])]


def _thinned(cost: Floats, loss: Floats, cells: int) -> IntArray:
    """The first of least loss in each of ``cells`` equal ranges of cost."""
    span = np.ptp(cost) or 1.0
    cell = np.minimum((cost - cost.min()) / span * cells, cells - 1).astype(np.intp)
    least = np.full(cells, np.inf)
    np.minimum.at(least, cell, loss)
    winners = np.flatnonzero(loss == least[cell])[::-1]
    first = np.full(cells, -1, dtype=np.intp)
    first[cell[winners]] = winners
    return first[first >= 0]
