"""Repairs: change what stays, so that removed channels are missed less.

A repair sees what is to go before it goes. It returns whole constants, with the entries of removed channels still in
place (they may hold anything): surgery cuts them afterwards, and the proof compares with the repaired original.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....graph.coupling import Removal
from ....graph.errors import IntaglioError
from ....graph.registry import Registry
from ...base import Context


@dataclass(frozen=True)
class Repaired:
    """New values of some constants of ``removal.coupling.model``; what was done as plain data, and what was not."""

    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class RepairImpossible(IntaglioError):
    """The model does not tell what a repair has to know."""


Repair = Callable[[Removal, Context], Repaired]
REPAIRS: Registry[Repair] = Registry("repair", "intaglio.repairs", "intaglio.passes.prune")


@REPAIRS.register("none")
def none(removal: Removal, context: Context) -> Repaired:
    """Leave everything as it is."""
    return Repaired()


def with_weights(removal: Removal, weights: Mapping[str, np.ndarray]) -> Removal:
    """The same removal on the same graph with other values, which the proof takes for the original."""
    coupling = removal.coupling
    model = coupling.model.copy()
    for name, weight in weights.items():
        model.weights[name] = np.ascontiguousarray(weight, dtype=model.weights[name].dtype)
    prepared = dataclasses.replace(coupling.prepared, model=model)
    return Removal(dataclasses.replace(coupling, original=model, prepared=prepared), removal.removed)
