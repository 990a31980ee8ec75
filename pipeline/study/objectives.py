"""What a trial is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.errors import UsageError
from ...graph.spec import near
from ..search.limits import AMOUNTS


@dataclass(frozen=True)
class Objective:
    """``figure`` finds it in what is told of a trial, None where it was not measured; more of it is better where ``larger``."""

    name: str
    larger: bool = False
    needs: str = ""

    def figure(self, point: Mapping[str, Any]) -> float | None:
        if self.name == "accuracy":
            return next(iter((point.get("accuracy") or {}).values()), None)
        found = point.get(self.name) if self.name in _QUALITIES else _kept(point, self.name)
        return None if found is None else float(found)

    def cost(self, point: Mapping[str, Any]) -> float:
        """What is to become less; infinite where there is no figure."""
        found = self.figure(point)
        return math.inf if found is None or math.isnan(found) else -found if self.larger else found


_QUALITIES = {"sqnr_db", "agreement"}
OBJECTIVES = {
    "accuracy": Objective("accuracy", larger=True, needs="labels"),
    "sqnr": Objective("sqnr_db", larger=True),
    "agreement": Objective("agreement", larger=True, needs="data"),
    **{name: Objective(name) for name in (*AMOUNTS, "memory")},
}
"""By the name that users give. Amounts are fractions of the original's, ``memory`` of the most that its tensors take."""


def objectives(names: Sequence[str], *, smaller_accuracy: bool = False) -> list[Objective]:
    """Raises UsageError. ``smaller_accuracy`` says that the metric of accuracy counts errors."""
    for name in names:
        if name not in OBJECTIVES:
            raise UsageError(f"there is no objective {name!r}", fix=near(name, OBJECTIVES))
    if len(set(names)) < len(names):
        raise UsageError("an objective is named twice")
    return [
        Objective("accuracy", larger=not smaller_accuracy, needs="labels") if name == "accuracy" else OBJECTIVES[name]
        for name in names
    ]


def _kept(point: Mapping[str, Any], name: str) -> Any:
    if name == "latency":
        return point.get("latency_ratio")
    return (point.get("kept") or {}).get({"size": "size_bytes"}.get(name, name))


def best(costs: np.ndarray) -> np.ndarray:
    """Which rows no other is at least as good as in all columns and better in one; of equal rows the first.

    Shapes: costs (rows, columns) -> (rows,).
    """
    order = np.lexsort(costs.T[::-1]) if len(costs) else np.zeros(0, dtype=int)
    found = np.zeros(len(costs), dtype=bool)
    front = np.empty((0, costs.shape[1]))
    for row in order.tolist():
        one = costs[row]
        if np.isfinite(one).all() and not (front <= one).all(axis=1).any():
            found[row] = True
            front = np.vstack([front, one])
    return found


def ranks(costs: np.ndarray) -> np.ndarray:
    """0 for the best rows, 1 for those that are best without them, and so on. Shapes: (rows, columns) -> (rows,)."""
    rank = np.full(len(costs), len(costs))
    left = np.flatnonzero(np.isfinite(costs).all(axis=1))
    step = 0
    while len(left):
        front = best(costs[left])
        rank[left[front]] = step
        left, step = left[~front], step + 1
    return rank


def crowding(costs: np.ndarray) -> np.ndarray:
    """How far the neighbours of each row lie apart; infinite at the ends. Shapes: (rows, columns) -> (rows,).

    Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.
    """
    far = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] or 1.0
        far[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
        far[order[[0, -1]]] = np.inf
    return far


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """What the rows dominate below a reference, of two columns by strips, of more by slices. Shapes: (rows, columns)."""
    rows = costs[(costs < reference).all(axis=1)]
    rows = rows[best(rows)] if len(rows) else rows
    if not len(rows):
        return 0.0
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if costs.shape[1] == 1:
        return float(reference[0] - rows[0, 0])
    ends = np.append(rows[1:, 0], reference[0])
    widths = ends - rows[:, 0]
    return float(sum(w * hypervolume(rows[: k + 1, 1:], reference[1:]) for k, w in enumerate(widths) if w > 0))
