"""How many channels each group keeps: the least predicted harm that meets the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....graph.errors import TargetUnreachable
from ....graph.layer import Floats, Ints
from ...budget.solvers import SOLVERS, Item
from ..choose import Limits, Ranking
from .curves import Curve

Cost = Callable[[Ints], float]
_OPTIONS = 32
"""Widths tried for one group."""
_OUTPUTS_SHARE, _SHARED_OUTPUTS_SHARE = 0.5, 0.25
"""Weight of what the outputs lose in the harm, the rest being what the readers lose: for channels that one layer reads,
and for channels that several do, which none of them can make up for alone."""
_ROUNDS = 6
"""Times the costs are taken anew at the widths found: a layer's cost is a product of two groups' widths."""


@dataclass(frozen=True)
class Choices:
    """The widths a group may have and what each is predicted to cost the outputs."""

    keep: Ints
    loss: Floats


def predict_harm(curve: Curve, gone: Ints) -> Floats:
    """Harm done once so many channels went: a geometric mean of what the outputs and what the readers lose.

    The outputs' loss, measured with nothing else removed, misses what later layers will make up for; the readers' own
    misses what becomes of it. On a ResNet-20 either alone left up to 19 % more error at the outputs than
    the mean of both. Between the few places where outputs were measured it follows the readers' losses on a double
    logarithmic scale; without any it is the readers' losses.
    """
    local = curve.losses[gone]
    known = sorted((k, e) for k, e in curve.measured.items() if e > 0 and curve.losses[k] > 0)
    if not known:
        return np.asarray(local)
    x = np.log([curve.losses[k] for k, _ in known])
    share = _SHARED_OUTPUTS_SHARE if curve.shared else _OUTPUTS_SHARE
    y = share * np.maximum.accumulate(np.log([e for _, e in known])) + (1 - share) * x
    at = np.log(np.maximum(local, np.exp(x[0]) * 1e-6))
    harm = np.interp(at, x, y)
    harm = np.where(at < x[0], y[0] + (at - x[0]), harm)
    slope = max(1.0, (y[-1] - y[-2]) / max(x[-1] - x[-2], 1e-9)) if len(x) > 1 else 1.0
    harm = np.where(at > x[-1], y[-1] + (at - x[-1]) * min(slope, 2.0), harm)
    return np.asarray(np.where(local > 0, np.exp(harm), 0.0))


def choices(curve: Curve, limits: Limits, channels: int) -> Choices:
    wanted = np.unique(np.linspace(1, channels, min(channels, _OPTIONS)).round().astype(np.int64))
    keep = np.unique([*(limits.keep(channels, width) for width in wanted.tolist()), channels])
    return Choices(keep, predict_harm(curve, channels - keep))


def allocate(ranking: Ranking, curves: Sequence[Curve], cost: Cost, limit: float, *, solver: str = "knapsack") -> Ints:
    """Widths of the ranking's groups. ``cost`` of all widths together is at most ``limit``. Shapes: (groups,).

    Each group is one item of a multiple-choice knapsack, each width an option. Costs of options are taken with the
    others at their current widths, again until the widths stay; the best ever found is polished with true costs.

    Source: the formulation of Aflalo et al., "Knapsack Pruning with Inner Distillation", 2020, arXiv:2002.08258.
    Differs: whole widths with measured harm instead of channels with first-order importance.
    Where even the narrowest widths cost more than the limit, those.
    """
    table = [choices(curve, ranking.limits, n) for curve, n in zip(curves, ranking.sizes.tolist(), strict=True)]
    widths = _uniform(table, ranking.sizes, cost, limit)
    best, best_harm = widths, _harm(table, widths)
    for _ in range(_ROUNDS):
        found = _solve(table, widths, cost, limit, solver)
        found = _polish(table, found, cost, limit)
        harm = _harm(table, found)
        if harm < best_harm and cost(found) <= limit:
            best, best_harm = found, harm
        if np.array_equal(found, widths):
            break
        widths = found
    return best


def _uniform(table: Sequence[Choices], sizes: Ints, cost: Cost, limit: float) -> Ints:
    """The same fraction of every group, as large as the limit allows."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if cost(_nearest(table, sizes * middle)) <= limit:
            low = middle
        else:
            high = middle
    return _nearest(table, sizes * low)


def _nearest(table: Sequence[Choices], wanted: Floats) -> Ints:
    return np.array([c.keep[np.abs(c.keep - w).argmin()] for c, w in zip(table, wanted, strict=True)], dtype=np.int64)


def _harm(table: Sequence[Choices], widths: Ints) -> float:
    return float(sum(c.loss[np.searchsorted(c.keep, w)] for c, w in zip(table, widths, strict=True)))


def _solve(table: Sequence[Choices], widths: Ints, cost: Cost, limit: float, solver: str) -> Ints:
    now = cost(widths)
    items, shift = [], 0.0
    for i, options in enumerate(table):
        costs = np.array([cost(_with(widths, i, k)) for k in options.keep.tolist()]) - now
        shift += costs.min()
        items.append(Item(costs - costs.min(), options.loss))
    try:
        picked = SOLVERS[solver](items, max(limit - now - shift, 0.0))
    except TargetUnreachable:
        return np.array([c.keep[0] for c in table], dtype=np.int64)
    return np.array([c.keep[k] for c, k in zip(table, picked, strict=True)], dtype=np.int64)


def _polish(table: Sequence[Choices], widths: Ints, cost: Cost, limit: float) -> Ints:
    """Meet the limit in true costs by the cheapest steps down, then spend what is left by the best steps up."""
    widths = widths.copy()
    now = cost(widths)
    while now > limit:
        down = [
            (lost / (now - left), i, left, to) for i, to, left, lost in _moves(table, widths, cost, -1) if left < now
        ]
        if not down:
            return widths
        _, i, now, widths[i] = min(down)
    while True:
        up = [
            (-lost / max(left - now, 1e-12), -i, left, to)
            for i, to, left, lost in _moves(table, widths, cost, 1)
            if left <= limit and lost < 0
        ]
        if not up:
            return widths
        _, i, now, widths[-i] = max(up)


def _moves(table: Sequence[Choices], widths: Ints, cost: Cost, by: int) -> Iterator[tuple[int, int, float, float]]:
    """Every group's next width: the group, the width, what all cost then, and how much more is lost."""
    for i, options in enumerate(table):
        at = int(np.searchsorted(options.keep, widths[i]))
        if 0 <= at + by < len(options.keep):
            width = int(options.keep[at + by])
            yield i, width, cost(_with(widths, i, width)), options.loss[at + by] - options.loss[at]


def _with(widths: Ints, i: int, width: int) -> Ints:
    changed = widths.copy()
    changed[i] = width
    return changed
