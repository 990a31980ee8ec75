"""What a removal would leave of a model's cost, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...graph.cost import cost
from ...graph.coupling import Coupling, Removal
from ...graph.coupling.labels import IntArray, Why
from ...graph.coupling.solve import BoolArray
from ...graph.index import index_of
from ...graph.nodes import subgraphs
from ..budget.amounts import Amounts
from .weights import Scores


class RemovalCost:
    """Evaluates removals: every node's MACs and every constant's size as a product of lengths that may shrink.

    Copies of a parted constant count once for each way in which they are cut, as they are saved.
    """

    def __init__(self, coupling: Coupling, file_bytes: int) -> None:
        self.coupling = coupling
        shares, classes, base = coupling.trace.shares, coupling.solution.classes, coupling.prepared.base
        nodes = [
            (coupling.macs(k) * share, dict(enumerate(axes))) for k, some in shares.items() for share, axes in some
        ]
        rest = cost(coupling.original).macs - sum(map(coupling.macs, shares))
        self._nodes = Terms(classes, [*nodes, (rest, {})])
        weights, known, read = coupling.model.weights, coupling.params, index_of(coupling.model).uses
        names = [name for name in dict.fromkeys((*weights, *known)) if name in read]
        axes = [{a: x for a, x in enumerate(coupling.axes(name)) if not isinstance(x, Why)} for name in names]
        self._constants = Terms(classes, [(known.get(name, 0), x) for name, x in zip(names, axes, strict=True)])
        families = {name: k for k, name in enumerate(dict.fromkeys(base.get(name, name) for name in names))}
        self._families = np.array([families[base.get(name, name)] for name in names], dtype=np.uint64)
        self._bytes = np.array([weights[name].nbytes if name in weights else 0 for name in names], dtype=np.float64)
        self._inner_params = self._count_inner()
        self._other_bytes = file_bytes - self._saved(np.zeros(len(coupling.solution.reason), dtype=bool))[1]

    def after(self, removal: Removal) -> Amounts:
        """What is left."""
        params, size = self._saved(removal.goes)
        return Amounts(self._nodes.total(removal.goes), params + self._inner_params, size + self._other_bytes)

    def _saved(self, goes: BoolArray) -> tuple[float, float]:
        """Parameters and bytes of the constants, those that are cut alike once."""
        shares, cut = self._constants.left(goes), self._constants.cuts(goes)
        _, first = np.unique(np.stack([self._families, cut], axis=1), axis=0, return_index=True)
        return float(shares[first] @ self._constants.amounts[first]), float(shares[first] @ self._bytes[first])

    def _count_inner(self) -> int:
        """Parameters inside subgraphs and functions, which stay."""
        model = self.coupling.model
        if not model.proto.functions and not any(next(subgraphs(n), None) for n in self.coupling.nodes):
            return 0
        return cost(model).params - sum(self.coupling.params.values())


class Terms:
    """Amounts, each of which shrinks with the product of some axes' lengths."""

    def __init__(self, classes: IntArray, terms: Sequence[tuple[float, Mapping[int, IntArray]]]) -> None:
        """Each amount with its axes by their place, so that equal cuts of equal places can be told."""
        arrays = {id(x): x for _, axes in terms for x in axes.values()}
        position = {key: k for k, key in enumerate(arrays)}
        self.amounts = np.array([amount for amount, _ in terms], dtype=np.float64)
        self._lengths = np.array([len(x) for x in arrays.values()], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._index = _table([[position[id(x)] for x in axes.values()] for _, axes in terms], len(position))
        self._places = _table([list(axes) for _, axes in terms], 0)
        self._classes = classes[np.concatenate([np.zeros(0, dtype=np.int64), *arrays.values()])]

    def left(self, goes: BoolArray) -> Scores:
        """The fraction of each amount that stays."""
        kept = 1 - np.add.reduceat(goes[self._classes], self._starts, dtype=np.int64) / self._lengths
        return np.asarray(np.append(kept, 1.0)[self._index].prod(axis=1))

    def total(self, goes: BoolArray) -> float:
        """What stays of all amounts together."""
        return float(self.left(goes) @ self.amounts)

    def cuts(self, goes: BoolArray) -> NDArray[np.uint64]:
        """A number for each amount, the same where the same indices go at the same places."""
        gone = goes[self._classes]
        place = np.arange(len(gone)) - np.repeat(self._starts, self._lengths)
        random = np.random.default_rng(0).integers(1, 2**63, int(self._lengths.max(initial=0)) + 8, dtype=np.uint64)
        cut = np.append(np.add.reduceat(np.where(gone, random[place], 0), self._starts, dtype=np.uint64), np.uint64(0))
        odd = random[-8:] | np.uint64(1)
        return np.asarray((cut[self._index] * odd[self._places % 8]).sum(axis=1, dtype=np.uint64))


def _table(rows: Sequence[Sequence[int]], fill: int) -> IntArray:
    """Shapes: (rows, length of the longest), others filled up."""
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), -1)
