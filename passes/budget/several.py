"""Choose one option per item so that costs of several kinds stay within a limit each and the losses sum to the least.

A multiple-choice knapsack of several dimensions, as a mixed-integer program: one variable of 0 or 1 for each option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from ...graph.errors import TargetUnreachable
from .solvers import Item, solve_exact

_GAP, _NODES = 1e-3, 2000
"""A choice that loses by so much more than the least is good enough, and the most nodes of the search tree."""


@dataclass(frozen=True, eq=False)
class Ways:
    """What there is to choose from. Shapes: costs (options, limits), loss (options,)."""

    costs: np.ndarray
    loss: np.ndarray


def solve_several(items: Sequence[Ways], limits: Sequence[float]) -> list[int]:
    """The choice of least loss; of one limit exactly, by ``solve_exact``.

    Raises:
        TargetUnreachable: no choice is within all limits.
    """
    if len(limits) == 1:
        return solve_exact([Item(one.costs[:, 0], one.loss) for one in items], limits[0])
    kept = [_front(one) for one in items]
    costs = np.concatenate([one.costs[k] for one, k in zip(items, kept, strict=True)]).T
    loss = np.concatenate([one.loss[k] for one, k in zip(items, kept, strict=True)])
    unit = np.maximum(np.abs(np.asarray(limits, np.float64)), 1e-300)
    alone = scipy.sparse.block_diag([np.ones((1, len(k))) for k in kept], format="csr")
    found = scipy.optimize.milp(
        loss / max(float(loss.max(initial=0.0)), 1e-300),
        integrality=np.ones(len(loss)),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=[
            scipy.optimize.LinearConstraint(costs / unit[:, None], ub=np.asarray(limits) / unit),
            scipy.optimize.LinearConstraint(alone, 1, 1),
        ],
        options={"mip_rel_gap": _GAP, "node_limit": _NODES},
    )
    if found.x is None:
        raise TargetUnreachable("no choice is within all limits", why=str(found.message))
    ends = np.cumsum([len(k) for k in kept])[:-1]
    return [int(k[share.argmax()]) for k, share in zip(kept, np.split(found.x, ends), strict=True)]


def _front(one: Ways) -> np.ndarray:
    """Places of the options that are allowed and that no other beats in loss and all costs."""
    rows = np.column_stack([one.loss, one.costs])
    places = np.flatnonzero(np.isfinite(rows).all(axis=1))
    rows = rows[places]
    beaten = [
        ((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any() or (rows[:k] == row).all(axis=1).any()
        for k, row in enumerate(rows)
    ]
    return places[~np.asarray(beaten, bool)]
