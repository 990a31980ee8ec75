"""What every removal must obey, checked in time linear in the labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .analyse import Coupling
from .labels import IntArray, Why
from .surgery import Removal


@dataclass(frozen=True)
class AxisTable:
    """All labelled axes one after the other: ``classes`` of their labels, ``starts`` of each, ``needed`` lengths."""

    classes: IntArray
    starts: IntArray
    needed: IntArray


def axis_table(coupling: Coupling) -> AxisTable:
    """Every axis that can shrink, once, with the length it needs: 1, or what a normalization needs."""
    labels: dict[int, IntArray] = {}
    needed: dict[int, int] = {}
    for axes in coupling.trace.axes.values():
        for axis in axes:
            if axis is not None and not isinstance(axis, Why):
                labels.setdefault(id(axis), axis)
    for axis, least in coupling.trace.ledger.at_least:
        labels.setdefault(id(axis), axis)
        needed[id(axis)] = max(needed.get(id(axis), 1), least)
    arrays = list(labels.values())
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    joined = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
    floors = np.array([needed.get(key, 1) for key in labels], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return AxisTable(coupling.solution.classes[joined], starts, np.minimum(floors, lengths))


def too_short(table: AxisTable, removal: Removal) -> IntArray | None:
    """Removed atoms on an axis that keeps too few indices, or None if there is no such axis."""
    if not len(table.starts) or not removal.removed.any():
        return None
    gone = removal.goes[table.classes]
    kept = np.add.reduceat(~gone, table.starts)
    lengths = np.diff(np.append(table.starts, len(table.classes)))
    short = np.flatnonzero((kept < table.needed) & (kept < lengths))
    if not len(short):
        return None
    start = table.starts[short[0]]
    classes = np.unique(table.classes[start : start + lengths[short[0]]][gone[start : start + lengths[short[0]]]])
    atoms = np.unique(removal.coupling.solution.atoms[classes].indices)
    return atoms[removal.removed[atoms]]


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
