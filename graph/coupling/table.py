"""Every axis that can shrink, in one array, so that a removal is looked at in one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .labels import Axes, IntArray, Ledger, Why


@dataclass(frozen=True)
class AxisTable:
    """All distinct labelled axes one after the other.

    ``classes`` of their labels; ``starts`` of each axis in it; ``needed`` is the length that must stay: 1, or what a
    normalization needs. ``places`` finds an axis by the identity of its array; ``arrays`` keeps those alive.
    """

    classes: IntArray
    starts: IntArray
    needed: IntArray
    places: dict[int, int]
    arrays: list[IntArray] = field(repr=False)


def axis_table(tensors: Iterable[Axes], ledger: Ledger, classes: IntArray) -> AxisTable:
    """Collect the axes of all tensors. ``classes`` maps labels to classes."""
    labels: dict[int, IntArray] = {}
    for axes in tensors:
        for axis in axes:
            if not isinstance(axis, Why):
                labels[id(axis)] = axis
    needed: dict[int, int] = {}
    for axis, least in ledger.at_least:
        labels[id(axis)] = axis
        needed[id(axis)] = max(needed.get(id(axis), 1), least)
    arrays = list(labels.values())
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    joined = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
    floors = np.array([needed.get(key, 1) for key in labels], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])[: len(arrays)].astype(np.int64)
    places = {key: k for k, key in enumerate(labels)}
    return AxisTable(classes[joined], starts, np.minimum(floors, lengths), places, arrays)
