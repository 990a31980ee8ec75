"""What every removal must obey, checked in time linear in the labels."""

from __future__ import annotations

import numpy as np

from .labels import IntArray
from .surgery import Removal


def too_short(removal: Removal) -> IntArray | None:
    """Removed atoms on an axis that keeps too few indices, or None if there is no such axis."""
    table = removal.coupling.axis_table
    if not len(table.starts) or not removal.removed.any():
        return None
    gone = removal.goes[table.classes]
    lengths = np.diff(np.append(table.starts, len(table.classes)))
    kept = lengths - np.add.reduceat(gone.astype(np.int64), table.starts)
    short = np.flatnonzero((kept < table.needed) & (kept < lengths))
    if not len(short):
        return None
    there = slice(table.starts[short[0]], table.starts[short[0]] + lengths[short[0]])
    classes = np.unique(table.classes[there][gone[there]])
    atoms: IntArray = np.unique(removal.coupling.solution.atoms[classes].indices)
    removed: IntArray = atoms[removal.removed[atoms]]
    return removed


def check(removal: Removal) -> None:
    """A product goes exactly when one of its factors goes, and nothing frozen goes.

    Raises:
        AssertionError: the solver is wrong; never the user's fault.
    """
    solution, ledger = removal.coupling.solution, removal.coupling.trace.ledger
    gone = removal.goes[solution.classes]
    for product in ledger.products:
        if (gone[product.labels] != gone[product.members()].any(axis=1)).any():
            raise AssertionError("a product does not go with its factors")
    if removal.goes[solution.reason >= 0].any():
        raise AssertionError("something frozen goes")
