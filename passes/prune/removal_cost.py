"""What a removal would leave of a model's cost, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

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
        whole = cost(coupling.original)
        self.full = Amounts.counted(whole, file_bytes)
        self._nodes = _Terms(coupling.solution.classes)
        self._constants = _Terms(coupling.solution.classes)
        self._families: list[int] = []
        self._bytes: list[float] = []
        self._add_nodes()
        self._add_constants()
        self._inner_params = self._count_inner()
        self._other_bytes = file_bytes - self._saved(np.zeros(len(coupling.solution.reason), dtype=bool))[1]

    def after(self, removal: Removal) -> Amounts:
        """What is left."""
        macs = self._nodes.left(removal.goes)
        params, size = self._saved(removal.goes)
        return Amounts(float(macs @ self._nodes.amounts), params + self._inner_params, size + self._other_bytes)

    def _saved(self, goes: BoolArray) -> tuple[float, float]:
        """Parameters and bytes of the constants, those that are cut alike once."""
        shares, cut = self._constants.left(goes), self._constants.cuts(goes)
        keys = np.stack([np.array(self._families, dtype=np.uint64), cut], axis=1)
        _, first = np.unique(keys, axis=0, return_index=True)
        params = shares[first] @ self._constants.amounts[first]
        return float(params), float(shares[first] @ np.array(self._bytes)[first])

    def _count_inner(self) -> int:
        """Parameters inside subgraphs and functions, which stay."""
        model = self.coupling.model
        if not model.proto.functions and not any(next(subgraphs(n), None) for n in self.coupling.nodes):
            return 0
        return cost(model).params - sum(self.coupling.params.values())

    def _add_nodes(self) -> None:
        for index, terms in self.coupling.trace.shares.items():
            macs = self.coupling.macs(index)
            for share, axes in terms:
                self._nodes.add(macs * share, dict(enumerate(axes)))
        shared = sum(self.coupling.macs(index) for index in self.coupling.trace.shares)
        self._nodes.add(self.full.macs - shared, {})

    def _add_constants(self) -> None:
        coupling, base = self.coupling, self.coupling.prepared.base
        weights, known = coupling.model.weights, coupling.params
        read = index_of(coupling.model).uses
        families: dict[str, int] = {}
        for name in {**dict.fromkeys(weights), **dict.fromkeys(known)}:
            if name not in read:
                continue
            axes = {a: x for a, x in enumerate(coupling.axes(name)) if not isinstance(x, Why)}
            self._constants.add(float(known.get(name, 0)), axes)
            self._families.append(families.setdefault(base.get(name, name), len(families)))
            self._bytes.append(float(weights[name].nbytes) if name in weights else 0.0)


class _Terms:
    """Amounts, each of which shrinks with the product of some axes' lengths."""

    def __init__(self, classes: IntArray) -> None:
        self._class_of = classes
        self._amounts: list[float] = []
        self._axes: list[dict[int, IntArray]] = []

    def add(self, amount: float, axes: dict[int, IntArray]) -> None:
        """``axes`` by their place, so that equal cuts of equal places can be told."""
        self._amounts.append(float(amount))
        self._axes.append(axes)

    @cached_property
    def amounts(self) -> Scores:
        return np.array(self._amounts)

    def left(self, goes: BoolArray) -> Scores:
        """The fraction of each amount that stays."""
        if not len(self._starts):
            return np.ones(len(self._amounts))
        gone = goes[self._classes]
        kept = 1 - np.add.reduceat(gone, self._starts, dtype=np.int64) / self._lengths
        return np.asarray(np.append(kept, 1.0)[self._index].prod(axis=1))

    def cuts(self, goes: BoolArray) -> NDArray[np.uint64]:
        """A number for each amount, the same where the same indices go at the same places."""
        if not len(self._starts):
            return np.zeros(len(self._amounts), dtype=np.uint64)
        gone = goes[self._classes]
        place = np.arange(len(gone)) - np.repeat(self._starts, self._lengths)
        random = np.random.default_rng(0).integers(1, 2**63, int(self._lengths.max()) + 8, dtype=np.uint64)
        cut = np.append(np.add.reduceat(np.where(gone, random[place], 0), self._starts, dtype=np.uint64), np.uint64(0))
        odd = random[-8:] | np.uint64(1)
        return np.asarray((cut[self._index] * odd[self._places % 8]).sum(axis=1, dtype=np.uint64))

    @cached_property
    def _distinct(self) -> dict[int, IntArray]:
        return {id(x): x for axes in self._axes for x in axes.values()}

    @cached_property
    def _lengths(self) -> IntArray:
        return np.array([len(x) for x in self._distinct.values()], dtype=np.int64)

    @cached_property
    def _starts(self) -> IntArray:
        return np.concatenate([[0], np.cumsum(self._lengths)])[: len(self._lengths)].astype(np.int64)

    @cached_property
    def _index(self) -> IntArray:
        """Positions of each amount's axes among the distinct ones, one past the last where there are fewer."""
        position = {key: k for k, key in enumerate(self._distinct)}
        return self._table([[position[id(x)] for x in axes.values()] for axes in self._axes], len(position))

    @cached_property
    def _places(self) -> IntArray:
        return self._table([list(axes) for axes in self._axes], 0)

    @staticmethod
    def _table(rows: Sequence[Sequence[int]], fill: int) -> IntArray:
        width = max((len(row) for row in rows), default=0)
        return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), -1)

    @cached_property
    def _classes(self) -> IntArray:
        return self._class_of[np.concatenate(list(self._distinct.values()))]
