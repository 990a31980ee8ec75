"""What a removal would leave of a model's cost, without doing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...graph.cost import cost
from ...graph.coupling import Coupling, Removal
from ...graph.coupling.labels import IntArray, Why


@dataclass(frozen=True)
class Amounts:
    """MACs of one run (symbolic batch counted once), parameters, and bytes of the weights."""

    macs: float
    params: float
    size: float

    def of(self, target: str) -> float:
        return float(getattr(self, target))


class Tally:
    """Evaluates removals: every node's MACs and every constant's size as a product of lengths that may shrink."""

    def __init__(self, coupling: Coupling, file_bytes: int) -> None:
        self.coupling = coupling
        whole = cost(coupling.model, coupling.unit_shapes)
        self.full = Amounts(whole.macs, whole.params, file_bytes)
        self._axes: dict[int, int] = {}
        self._labels: list[IntArray] = []
        self._terms: list[tuple[float, float, float, list[int]]] = []
        self._add_nodes([n.macs for n in whole.nodes])
        self._add_constants()
        self._lengths = np.array([len(a) for a in self._labels], dtype=np.float64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]]).astype(np.int64)
        joined = np.concatenate(self._labels) if self._labels else np.zeros(0, np.int64)
        self._classes = coupling.solution.classes[joined]
        width = max((len(axes) for *_, axes in self._terms), default=0)
        padding = len(self._labels)
        self._index = np.full((len(self._terms), width), padding, dtype=np.int64)
        for row, (*_, axes) in enumerate(self._terms):
            self._index[row, : len(axes)] = axes
        self._weights = np.array([term[:3] for term in self._terms]).reshape(-1, 3)

    def after(self, removal: Removal) -> Amounts:
        """What is left."""
        if not len(self._terms):
            return self.full
        kept = np.add.reduceat(~removal.goes[self._classes], self._starts) / self._lengths
        shares = np.append(kept, 1.0)[self._index].prod(axis=1)
        lost = self._weights.T @ (1 - shares)
        return Amounts(
            *(float(v) for v in (self.full.macs - lost[0], self.full.params - lost[1], self.full.size - lost[2]))
        )

    def _axis(self, labels: IntArray) -> int:
        if id(labels) not in self._axes:
            self._axes[id(labels)] = len(self._labels)
            self._labels.append(labels)
        return self._axes[id(labels)]

    def _add_nodes(self, macs: list[float]) -> None:
        for index, terms in self.coupling.trace.shares.items():
            for share, axes in terms:
                if axes and macs[index]:
                    self._terms.append((macs[index] * share, 0.0, 0.0, [self._axis(a) for a in axes]))

    def _add_constants(self) -> None:
        base = self.coupling.prepared.base
        seen = set()
        for name, axes in self.coupling.trace.axes.items():
            weight = self.coupling.model.weights.get(name)
            labelled = [a for a in axes if not isinstance(a, Why)]
            if weight is None or not labelled or base.get(name, name) in seen:
                continue
            seen.add(base.get(name, name))
            params = float(self.coupling.params.get(name, 0))
            self._terms.append((0.0, params, float(weight.nbytes), [self._axis(a) for a in labelled]))
