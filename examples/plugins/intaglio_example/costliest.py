"""A budget solver: one step cheaper for the item that costs most, until the limit holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.graph.errors import TargetUnreachable
from intaglio.passes.budget.solvers import SOLVERS, Item


@SOLVERS.register("costliest")
def costliest(items: Sequence[Item], limit: float) -> list[int]:
    """Give the costliest item its next cheaper option, again and again; losses are not looked at."""
    orders = [np.argsort(-item.cost) for item in items]
    chosen = [0] * len(items)
    while sum(item.cost[o[k]] for item, o, k in zip(items, orders, chosen, strict=True)) > limit:
        open_items = [i for i, order in enumerate(orders) if chosen[i] + 1 < len(order)]
        if not open_items:
            raise TargetUnreachable("the cheapest options together cost more than the limit")
        chosen[max(open_items, key=lambda i: items[i].cost[orders[i][chosen[i]]])] += 1
    return [int(order[k]) for order, k in zip(orders, chosen, strict=True)]
