"""Solve label equations by unification: which indices can go alone, which only together, which never.

The solver knows nothing of ONNX. A *class* is a set of labels that must go together. A class without a product is an
*atom*: a decision of its own. A class with products is *composite*: it goes exactly when one of the atoms goes that
its products come down to, so all its products must come down to the same atoms. Where two products of one class
disagree, both are rewritten over their common coarsening (the finest partition that each side can express), and what
has none is frozen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import scipy

if TYPE_CHECKING:
    from scipy.sparse import csr_array

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .labels import IntArray, Ledger, Why

BoolArray = NDArray[np.bool_]
_ROUNDS = 16
"""Rounds of refinement before the rest is frozen; the deepest network seen needs three."""
_WIDEST = 6
"""Factors of a product beyond which it is not refined: definitions that feed on themselves double each round."""

CLASH = Why("", "analysis", "the axis is divided in two ways that have no common refinement")


@dataclass(frozen=True)
class Solution:
    """What the equations come down to.

    ``classes`` (labels,) gives each label's class; ``reason`` (classes,) indexes ``whys`` where a class is frozen,
    else -1; ``atoms`` (classes, atoms) is boolean and says which atoms take a class with them; ``rank`` (atoms,) is
    an atom's mean place among the factors of the products it is in, 0 for the outermost.
    """

    classes: IntArray
    reason: IntArray
    whys: list[Why]
    atoms: csr_array
    rank: NDArray[np.float64]
    rounds: int

    def meets(self, labels: IntArray) -> tuple[IntArray, IntArray]:
        """Pairs of an index of an axis and an atom that takes it away."""
        entry, atom = self.atoms[self.classes[labels]].nonzero()
        return entry, atom

    def goes(self, removed: BoolArray) -> BoolArray:
        """Classes that go when these atoms do. Shapes: (atoms,) -> (classes,)."""
        return np.asarray(self.atoms @ removed.astype(np.int32) > 0)


@dataclass
class _Rows:
    """Products as rows: ``label`` (rows,) is the product of ``members`` (rows, factors), -1 where there is none."""

    label: IntArray
    members: IntArray
    block: IntArray

    def extend(self, label: IntArray, members: IntArray) -> None:
        width = max(self.members.shape[1], members.shape[1])
        self.members = np.concatenate([_padded(self.members, width), _padded(members, width)])
        number = int(self.block.max(initial=-1)) + 1
        self.block = np.concatenate([self.block, np.full(len(label), number)])
        self.label = np.concatenate([self.label, label])


def solve(ledger: Ledger) -> Solution:
    """Unify everything the ledger states. Time is linear in the number of labels for each round of refinement."""
    return _Solver(ledger).run()


class _Solver:
    def __init__(self, ledger: Ledger) -> None:
        self.count = ledger.count
        pairs = ledger.equal
        self.left = _joined([a for a, _ in pairs])
        self.right = _joined([b for _, b in pairs])
        self.rows = _rows(ledger)
        self.whys = [why for _, why in ledger.frozen]
        self.frozen = _joined([labels for labels, _ in ledger.frozen])
        sizes = [len(labels) for labels, _ in ledger.frozen]
        self.frozen_by = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)

    def run(self) -> Solution:
        for round_ in range(_ROUNDS + 1):
            self._unify()
            self._flatten()
            clashing = self._clashes()
            if not len(clashing):
                break
            if round_ == _ROUNDS:
                self._freeze(self.rows.label[clashing], CLASH)
                return self.run()
            self._refine(clashing)
        return Solution(self.classes, self.reason, self.whys, self._atom_matrix(), self._ranks(), round_)

    def _unify(self) -> None:
        """Classes and frozen classes, to a fixpoint: frozen factors leave a product, a lone factor *is* the product."""
        while True:
            graph = scipy.sparse.coo_array(
                (np.ones(len(self.left), np.int8), (self.left, self.right)), shape=(self.count, self.count)
            )
            number, classes = scipy.sparse.csgraph.connected_components(graph, directed=False)
            self.classes = classes.astype(np.int64)
            self.reason = np.full(number, -1, dtype=np.int64)
            # Assigning in reverse order leaves the first reason given.
            self.reason[self.classes[self.frozen[::-1]]] = self.frozen_by[::-1]
            self._spread_frost()
            lone_row, lone_class = self._lone_factors()
            if not len(lone_row):
                return
            representative = np.zeros(number, dtype=np.int64)
            representative[self.classes] = np.arange(self.count)
            self.left = np.concatenate([self.left, self.rows.label[lone_row]])
            self.right = np.concatenate([self.right, representative[lone_class]])

    def _members(self) -> IntArray:
        """Live member classes of each product, -1 where there is none; a product's own class does not count."""
        members = np.where(self.rows.members >= 0, self.classes[self.rows.members], -1)
        dead = (members >= 0) & (self.reason[members] >= 0)
        own = members == self.classes[self.rows.label][:, None]
        return np.where(dead | own, -1, members)

    def _spread_frost(self) -> None:
        if not len(self.rows.label):
            return
        product = self.classes[self.rows.label]
        every = np.where(self.rows.members >= 0, self.classes[self.rows.members], -1)
        own = (every == product[:, None]).any(axis=1)
        while True:
            before = int((self.reason >= 0).sum())
            cold = (every >= 0) & (self.reason[every] >= 0)
            nobody = ~((every >= 0) & ~cold).any(axis=1) & (self.reason[product] < 0) & ~own
            first = cold.argmax(axis=1)
            told = np.where(cold.any(axis=1), self.reason[every[np.arange(len(every)), first]], -1)
            self.reason[product[nobody]] = told[nobody]
            row, column = np.nonzero((every >= 0) & ~cold & (self.reason[product] >= 0)[:, None])
            self.reason[every[row, column]] = self.reason[product[row]]
            if int((self.reason >= 0).sum()) == before:
                return

    def _lone_factors(self) -> tuple[IntArray, IntArray]:
        """Products left with one distinct live factor, which they therefore equal."""
        if not len(self.rows.label):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        members = self._members()
        highest = members.max(axis=1)
        lowest = np.where(members >= 0, members, np.iinfo(np.int64).max).min(axis=1)
        lone = np.flatnonzero((highest >= 0) & (highest == lowest) & (self.reason[self.classes[self.rows.label]] < 0))
        return lone, highest[lone]

    def _flatten(self) -> None:
        """The atoms that every class comes down to, and the row that defines each composite class."""
        number = len(self.reason)
        self.live_rows = np.zeros(0, np.int64)
        self.definition = np.full(number, -1, dtype=np.int64)
        if len(self.rows.label):
            self.row_members = self._members()
            product = self.classes[self.rows.label]
            several = (self.row_members >= 0).sum(axis=1) > 1
            self.live_rows = np.flatnonzero(several & (self.reason[product] < 0))
            # Assigning in reverse order leaves the first row of each class.
            self.definition[product[self.live_rows[::-1]]] = self.live_rows[::-1]
        composite = np.flatnonzero(self.definition >= 0)
        atom = np.flatnonzero((self.definition < 0) & (self.reason < 0))
        self.composite, self.atom = composite, atom
        reach = self._row_matrix(self.definition[composite], number)
        step = self._step_matrix(reach, composite, number)
        while len(composite):
            further = _boolean(reach @ step + reach)
            if further.nnz == reach.nnz:
                break
            reach = further
        self.reach = reach

    def _row_matrix(self, rows: IntArray, number: int) -> csr_array:
        """Member classes of the given rows. Shapes: (len(rows), classes)."""
        if not len(rows):
            return scipy.sparse.csr_array((0, number), dtype=np.int32)
        members = self.row_members[rows]
        row, column = np.nonzero(members >= 0)
        return _boolean(
            scipy.sparse.csr_array(
                (np.ones(len(row), np.int32), (row, members[row, column])), shape=(len(rows), number)
            )
        )

    @staticmethod
    def _step_matrix(reach: csr_array, composite: IntArray, number: int) -> csr_array:
        """One step of substitution: composite classes to their members. Shapes: (classes, classes)."""
        entries = reach.tocoo()
        return scipy.sparse.csr_array((entries.data, (composite[entries.row], entries.col)), shape=(number, number))

    def _atom_matrix(self) -> csr_array:
        number = len(self.reason)
        place = np.full(number, -1, dtype=np.int64)
        place[self.atom] = np.arange(len(self.atom))
        entries = self.reach.tocoo()
        inner = place[entries.col] >= 0
        rows = np.concatenate([self.atom, self.composite[entries.row[inner]]])
        columns = np.concatenate([place[self.atom], place[entries.col[inner]]])
        return scipy.sparse.csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(number, len(self.atom)))

    def _hashes(self) -> NDArray[np.uint64]:
        """A random number for each atom, 0 for other classes; a set's hash is the sum."""
        random = np.random.default_rng(0).integers(1, 2**63, size=len(self.reason), dtype=np.uint64)
        is_atom = np.zeros(len(self.reason), dtype=bool)
        is_atom[self.atom] = True
        return np.where(is_atom, random, np.uint64(0))

    def _clashes(self) -> IntArray:
        """Rows whose product comes down to other atoms than the row that defines its class."""
        product = self.classes[self.rows.label[self.live_rows]]
        other = self.definition[product] != self.live_rows
        rows = self.live_rows[other]
        if not len(rows):
            return rows
        hashes = self._hashes()
        class_hash = hashes.copy()
        class_hash[self.composite] = _sum_over(self.reach, hashes)
        direct = self._row_matrix(rows, len(self.reason))
        step = self._step_matrix(self.reach, self.composite, len(self.reason))
        spread = _boolean(direct @ step + direct)
        return rows[_sum_over(spread, hashes) != class_hash[self.classes[self.rows.label[rows]]]]

    def _refine(self, clashing: IntArray) -> None:
        """Rewrite clashing products over their common coarsening, one pair of blocks at a time."""
        definition = self.definition[self.classes[self.rows.label[clashing]]]
        pair = np.stack([self.rows.block[definition], self.rows.block[clashing]], axis=1)
        _, which = np.unique(pair, axis=0, return_inverse=True)
        which = which.reshape(-1)
        for number in range(int(which.max()) + 1):
            mine = which == number
            one, two = _apart(self._columns(definition[mine]), self._columns(clashing[mine]))
            if max(one.shape[1], two.shape[1]) > _WIDEST:
                self._freeze(self.rows.label[clashing[mine]], CLASH)
                continue
            self._coarsen(one, two)

    def _columns(self, rows: IntArray) -> IntArray:
        """Atoms of the given rows, factor by factor, composite factors replaced by theirs. -1 where there is none."""
        columns = self.row_members[rows]
        for _ in range(_ROUNDS):
            composite = (columns >= 0) & (self.definition[columns] >= 0)
            if not composite.any():
                break
            parts = []
            for column, deep in zip(columns.T, composite.T, strict=True):
                if not deep.any():
                    parts.append(column[:, None])
                    continue
                inner = self.row_members[self.definition[column]]
                flat = np.full_like(inner, -1)
                flat[:, 0] = column
                parts.append(np.where(deep[:, None], inner, flat))
            columns = _distinct(np.concatenate(parts, axis=1))
            if columns.shape[1] > 2 * _WIDEST:
                break
        return columns

    def _coarsen(self, one: IntArray, two: IntArray) -> None:
        """State that ``one[r]`` and ``two[r]`` are the same set for every row, through new atoms.

        For each pair of columns the new atoms are the connected components of "stand in the same row": the finest
        blocks that both columns can express. A block that the other column leaves out somewhere is none.
        """
        found = np.full((one.shape[1], two.shape[1], len(one)), -1, dtype=np.int64)
        for a in range(one.shape[1]):
            for b in range(two.shape[1]):
                found[a, b] = self._common_blocks(one[:, a], two[:, b])
        for a in range(one.shape[1]):
            self._define(one[:, a], found[a].T)
        for b in range(two.shape[1]):
            self._define(two[:, b], found[:, b].T)

    def _common_blocks(self, u: IntArray, v: IntArray) -> IntArray:
        """Labels of new atoms by row, -1 where a row is in no usable block."""
        out = np.full(len(u), -1, dtype=np.int64)
        both = (u >= 0) & (v >= 0)
        if not both.any():
            return out
        names, compact = np.unique(np.concatenate([u, v]), return_inverse=True)
        cu, cv = compact[: len(u)], compact[len(u) :]
        graph = scipy.sparse.coo_array(
            (np.ones(int(both.sum()), np.int8), (cu[both], cv[both])), shape=(len(names), len(names))
        )
        number, block = scipy.sparse.csgraph.connected_components(graph, directed=False)
        usable = np.ones(number, dtype=bool)
        usable[block[cu[(u >= 0) & ~both]]] = False
        usable[block[cv[(v >= 0) & ~both]]] = False
        blocks = np.unique(block[cu[both]])
        if len(blocks) == 1 and both.all() and len(u) > 1:
            return out
        blocks = blocks[usable[blocks]]
        label = np.full(number, -1, dtype=np.int64)
        label[blocks] = np.arange(self.count, self.count + len(blocks))
        self.count += len(blocks)
        out[both] = label[block[cu[both]]]
        return out

    def _define(self, column: IntArray, members: IntArray) -> None:
        """Give each class in a column its new atoms; a class left without any is frozen."""
        present = np.flatnonzero(column >= 0)
        if not len(present):
            return
        classes, first = np.unique(column[present], return_index=True)
        definition = members[present[first]]
        representative = np.zeros(len(self.reason), dtype=np.int64)
        representative[self.classes] = np.arange(len(self.classes))
        labels = representative[classes]
        empty = (definition < 0).all(axis=1)
        if empty.any():
            self._freeze(labels[empty], CLASH)
        if (~empty).any():
            self.rows.extend(labels[~empty], definition[~empty])

    def _freeze(self, labels: IntArray, why: Why) -> None:
        self.frozen = np.concatenate([self.frozen, labels])
        self.frozen_by = np.concatenate([self.frozen_by, np.full(len(labels), len(self.whys), dtype=np.int64)])
        self.whys.append(why)

    def _ranks(self) -> NDArray[np.float64]:
        place = np.full(len(self.reason), -1, dtype=np.int64)
        place[self.atom] = np.arange(len(self.atom))
        total, times = np.zeros(len(self.atom)), np.zeros(len(self.atom))
        rows = self.definition[self.composite]
        if len(rows):
            columns = self._columns(rows)
            for position, column in enumerate(columns.T):
                at = place[column[column >= 0]]
                at = at[at >= 0]
                np.add.at(total, at, position)
                np.add.at(times, at, 1)
        return total / np.maximum(times, 1)


def _rows(ledger: Ledger) -> _Rows:
    rows = _Rows(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    if ledger.products:
        width = max(len(p.factors) for p in ledger.products)
        rows.label = np.concatenate([p.labels for p in ledger.products])
        rows.members = np.concatenate([_padded(p.members(), width) for p in ledger.products])
        sizes = [len(p.labels) for p in ledger.products]
        rows.block = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    return rows


def _padded(members: IntArray, width: int) -> IntArray:
    return np.pad(members, ((0, 0), (0, width - members.shape[1])), constant_values=-1)


def _distinct(columns: IntArray) -> IntArray:
    """Sets by row, each member once, without empty columns."""
    columns = columns.copy()
    for k in range(1, columns.shape[1]):
        again = (columns[:, :k] == columns[:, k, None]).any(axis=1)
        columns[again, k] = -1
    return columns[:, (columns >= 0).any(axis=0)]


def _apart(one: IntArray, two: IntArray) -> tuple[IntArray, IntArray]:
    """Two sets by row without what both have in that row."""
    both = (one[:, :, None] == two[:, None, :]) & (one >= 0)[:, :, None]
    one, two = np.where(both.any(axis=2), -1, one), np.where(both.any(axis=1), -1, two)
    return one[:, (one >= 0).any(axis=0)], two[:, (two >= 0).any(axis=0)]


def _joined(arrays: list[IntArray]) -> IntArray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)


def _boolean(matrix: csr_array) -> csr_array:
    out = scipy.sparse.csr_array(matrix)
    out.sum_duplicates()
    out.data = np.ones(len(out.data), np.int32)
    return out


def _sum_over(matrix: csr_array, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sum of ``values`` over the columns of each row, modulo 2**64."""
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values[matrix.indices], dtype=np.uint64)])
    return running[matrix.indptr[1:]] - running[matrix.indptr[:-1]]
