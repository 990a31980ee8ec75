"""Groups: atoms with the same footprint, which is what a user can make narrower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scipy

if TYPE_CHECKING:
    from scipy.sparse import csr_array

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..io.collector import paused_collector
from ..nodes import display_name
from .labels import IntArray, Why
from .solved import Solved


@dataclass(eq=False)
class Group:
    """Coupled channels of one width.

    ``atoms`` are the decisions it offers, one a channel; none if it is frozen. ``members`` are the constants' axes
    its channels stand on. ``params`` and ``macs`` count what one channel costs. ``bundle`` is shared by groups whose
    channels cross in one axis, such as heads and their width; ``depth`` tells the outer (0) from the inner.
    """

    name: str
    channels: int
    members: list[tuple[str, int]]
    params: float
    macs: float
    atoms: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    exact: bool = True
    inexact_by: Why | None = None
    frozen_by: Why | None = None
    bundle: int = -1
    depth: float = 0.0

    @property
    def prunable(self) -> bool:
        return self.frozen_by is None


@dataclass
class _Footprints:
    """Where units (atoms, and frozen classes) stand. ``count`` is (units, places), ``units`` maps classes to units."""

    count: csr_array
    places: list[tuple[str, int]]
    units: csr_array
    params: NDArray[np.float64]
    macs: NDArray[np.float64]


ALONE = Why("", "channel", "is the only one of its kind, so its axis would become empty")


@paused_collector()
def find_groups(solved: Solved) -> list[Group]:
    """Group atoms, and frozen classes by their reason, by the constants' axes they stand on and how often."""
    solution = solved.solution
    feet = _footprints(solved)
    atoms = solution.atoms.shape[1]
    key = _hash_rows(feet.count)
    frozen_classes = np.flatnonzero(solution.reason >= 0)
    reason = np.concatenate([np.full(atoms, -1, dtype=np.int64), solution.reason[frozen_classes]])
    used = np.flatnonzero(np.diff(feet.count.indptr) > 0)
    order = np.lexsort((used, reason[used], key[used]))
    runs = used[order]
    if not len(runs):
        return []
    cuts = np.flatnonzero((np.diff(key[runs]) != 0) | (np.diff(reason[runs]) != 0)) + 1
    inexact = _inexact_atoms(solved)
    found = []
    for units in np.split(runs, cuts):
        group = _describe(solved, feet, units)
        if not group.params and not group.macs:
            continue  # shapes, bounds and index tables: nothing to gain
        if reason[units[0]] >= 0:
            group.frozen_by = solution.whys[reason[units[0]]]
        else:
            group.atoms = np.sort(units)
            marks = inexact[group.atoms]
            if (marks >= 0).any():
                group.exact = False
                group.inexact_by = solved.trace.ledger.inexact[int(marks[marks >= 0][0])][1]
            group.depth = float(solution.rank[group.atoms].mean())
            if len(units) == 1:
                group.frozen_by = ALONE
        found.append((int(feet.count.indices[feet.count.indptr[units[0]]]), group))
    found.sort(key=lambda pair: (pair[0], pair[1].name))
    groups = [group for _, group in found]
    _bundle(solved, groups)
    _name(solved, groups)
    return groups


def _footprints(solved: Solved) -> _Footprints:
    solution = solved.solution
    classes, atoms = solution.atoms.shape
    frozen = np.flatnonzero(solution.reason >= 0)
    entries = solution.atoms.tocoo()
    rows = np.concatenate([entries.row, frozen])
    columns = np.concatenate([entries.col, atoms + np.arange(len(frozen))])
    units = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(classes, atoms + len(frozen)))
    places, labels, lengths, weights = [], [], [], []
    for name in _in_graph_order(solved):
        size = solved.params.get(name, 0)
        for a, axis in enumerate(solved.axes(name)):
            if not isinstance(axis, Why):
                places.append((name, a))
                labels.append(axis)
                lengths.append(len(axis))
                weights.append(size / len(axis))
    count = _standing(solved, labels, units)
    params = np.asarray(count @ np.array(weights)) if places else np.zeros(units.shape[1])
    return _Footprints(count, places, units, params, _macs(solved, units))


def _standing(solved: Solved, labels: list[IntArray], units: csr_array) -> csr_array:
    """How many entries of each labelled axis each unit takes. Shapes: (units, axes)."""
    if not labels:
        return scipy.sparse.csr_array((units.shape[1], 0))
    where = np.repeat(np.arange(len(labels)), [len(x) for x in labels])
    classes = solved.solution.classes[np.concatenate(labels)]
    standing = scipy.sparse.csr_array((np.ones(len(where)), (classes, where)), shape=(units.shape[0], len(labels)))
    count = scipy.sparse.csr_array(units.T @ standing)
    count.sort_indices()
    return count


def _macs(solved: Solved, units: csr_array) -> NDArray[np.float64]:
    """MACs that go with each unit alone: each node's, times the part of each of its axes that the unit takes."""
    labels, weights = [], []
    for index, terms in solved.trace.shares.items():
        macs = solved.macs(index)
        for share, axes in terms:
            for axis in axes:
                labels.append(axis)
                weights.append(macs * share / len(axis))
    return np.asarray(_standing(solved, labels, units) @ np.array(weights)) if labels else np.zeros(units.shape[1])


def _in_graph_order(solved: Solved) -> list[str]:
    order = dict.fromkeys(i for n in solved.nodes for i in n.input if i in solved.trace.axes)
    return [name for name in order if name in solved.model.weights]


def _hash_rows(count: csr_array) -> NDArray[np.uint64]:
    random = np.random.default_rng(0).integers(1, 2**63, size=count.shape[1], dtype=np.uint64)
    terms = random[count.indices] * count.data.astype(np.uint64)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    hashes: NDArray[np.uint64] = running[count.indptr[1:]] - running[count.indptr[:-1]]
    return hashes


def _describe(solved: Solved, feet: _Footprints, units: IntArray) -> Group:
    first = int(units[0])
    where = feet.count.indices[feet.count.indptr[first] : feet.count.indptr[first + 1]].tolist()
    base = solved.prepared.base
    members = list(dict.fromkeys((base.get(feet.places[k][0], feet.places[k][0]), feet.places[k][1]) for k in where))
    return Group("", len(units), members, float(feet.params[units].mean()), float(feet.macs[units].mean()))


def _inexact_atoms(solved: Solved) -> IntArray:
    """Index of the first inexact mark on each atom, -1 where there is none."""
    solution = solved.solution
    marked = np.full(solution.atoms.shape[1], -1, dtype=np.int64)
    for k, (labels, _) in reversed(list(enumerate(solved.trace.ledger.inexact))):
        classes = np.zeros(solution.atoms.shape[0], dtype=np.int32)
        classes[solution.classes[labels]] = 1
        marked[np.asarray(solution.atoms.T @ classes) > 0] = k
    return marked


def owners(solved: Solved, groups: list[Group]) -> IntArray:
    """Group of each atom, -1 for none. Shapes: (atoms,)."""
    owner = np.full(solved.solution.atoms.shape[1], -1, dtype=np.int64)
    for k, group in enumerate(groups):
        owner[group.atoms] = k
    return owner


def crossing(solved: Solved, groups: list[Group]) -> dict[int, set[int]]:
    """For each group the others that share a product with it."""
    atoms, owner = solved.solution.atoms, owners(solved, groups)
    found: dict[int, set[int]] = defaultdict(set)
    for row in np.flatnonzero(np.diff(atoms.indptr) > 1):
        met = set(owner[atoms.indices[atoms.indptr[row] : atoms.indptr[row + 1]]].tolist()) - {-1}
        for k in met:
            found[k] |= met - {k}
    return found


def _bundle(solved: Solved, groups: list[Group]) -> None:
    """Number the sets of groups whose atoms meet in a product."""
    crossed = crossing(solved, groups)
    bundles = 0
    for k in sorted(crossed):
        if groups[k].bundle >= 0 or not crossed[k]:
            continue
        todo = [k]
        while todo:
            at = todo.pop()
            if groups[at].bundle < 0:
                groups[at].bundle = bundles
                todo.extend(crossed[at])
        bundles += 1


def _name(solved: Solved, groups: list[Group]) -> None:
    """Call a group after the first node that makes its channels, parts of a bundle by their place in it."""
    makers = _makers(solved)
    taken: dict[str, int] = defaultdict(int)
    for group in groups:
        made = [m for m in group.members if m in makers]
        name = makers[made[0]] if made else f"{group.members[0][0]}[{group.members[0][1]}]"
        if group.bundle >= 0:
            name += "/heads" if group.depth < 0.5 else "/width"
        taken[name] += 1
        group.name = name if taken[name] == 1 else f"{name}#{taken[name]}"


def _makers(solved: Solved) -> dict[tuple[str, int], str]:
    """The node that makes the channels of each constant's axis: one that uses the constant without summing over it."""
    summed = {(c.node, c.position, c.axis) for c in solved.trace.contractions}
    base = solved.prepared.base
    makers: dict[tuple[str, int], str] = {}
    for index, node in enumerate(solved.nodes):
        for i, name in enumerate(node.input):
            if name in solved.model.weights and name in solved.trace.axes:
                for a in range(solved.model.weights[name].ndim):
                    if (index, i, a) not in summed:
                        makers.setdefault((base.get(name, name), a), display_name(node))
    return makers
