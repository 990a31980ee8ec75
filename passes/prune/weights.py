"""What a criterion sees of a group: every constant its channels stand on, cut to what is still there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...graph.bits import holds_signs
from ...graph.coupling import Coupling, Group, Removal
from ...graph.coupling.groups import owners
from ...graph.coupling.labels import IntArray, Why
from ...graph.errors import IntaglioError
from ...graph.index import index_of
from ...graph.io.spill import spilled
from ...graph.layer import ALL, AT_ONCE
from ...graph.nodes import attribute
from ...graph.traits import operator
from ..calibration.gradients import Gradient
from ..needs import CURVATURE, GRADIENTS, undeclared
from .inputs import Inputs

Role = Literal["out", "in", "scale", "shift", "other"]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """One axis of one constant.

    ``role``: ``out`` if the axis is what a layer makes, ``in`` if the layer sums over it, ``scale`` and ``shift`` for
    BatchNormalization's and biases, ``other`` for the rest. ``entries`` are the indices along the axis that belong to
    the group and ``channel`` the channel each belongs to. ``node`` is the first node that reads the constant,
    ``uses`` how often each of its weights is multiplied in a run.
    """

    tensor: str
    axis: int
    role: Role
    weight: np.ndarray = field(repr=False)
    entries: IntArray = field(repr=False)
    channel: IntArray = field(repr=False)
    channels: int
    node: int
    uses: float = 1.0
    gain: np.ndarray | None = field(default=None, repr=False)
    seen: Inputs | None = field(default=None, repr=False)
    gradient: Gradient | None = field(default=None, repr=False)

    @property
    def inputs(self) -> Inputs:
        """What the weights are multiplied with on calibration data, for roles ``in`` of criteria that need it.

        Raises:
            IntaglioError: nothing multiplies the weights with one tensor alone, as in recurrent cells.
        """
        if self.seen is None:
            raise IntaglioError(
                f"nothing is known of what {self.tensor!r} is multiplied with",
                fix="choose another criterion, or leave out what reads it with --exclude",
            )
        return self.seen

    @property
    def rows(self) -> Scores:
        """The weights by entry. Shapes: (entries, everything else)."""
        return self._by_entry(self.weight)

    @property
    def gradients(self) -> Scores:
        """Of the loss with respect to the weights, the mean over batches; for criteria that need it. Shapes: as rows."""
        return self._by_entry(self._gradient.mean)

    @property
    def squared_gradients(self) -> Scores:
        """The mean over batches of squared gradients; for criteria that need gradients. Shapes: as rows."""
        return self._by_entry(self._gradient.squares)

    @property
    def curvature(self) -> Scores:
        """The product of the loss's second derivatives with ``gradients``, for criteria that need it. Shapes: as rows."""
        if self._gradient.curved is None:
            raise undeclared("criterion", CURVATURE)
        return self._by_entry(self._gradient.curved)

    @property
    def _gradient(self) -> Gradient:
        if self.gradient is None:
            raise undeclared("criterion", GRADIENTS)
        return self.gradient

    def _by_entry(self, values: np.ndarray, some: slice = ALL) -> Scores:
        rows = np.moveaxis(values, self.axis, 0)[self.entries[some]]
        return np.ascontiguousarray(rows, dtype=np.float64).reshape(len(rows), -1)

    def scored(self, score: Callable[[Scores], Scores]) -> Scores:
        """A score that looks at each row by itself, few of them at a time. Shapes: (entries,)."""
        few = max(1, AT_ONCE * self.weight.shape[self.axis] // max(1, self.weight.size))
        starts = range(0, max(1, len(self.entries)), few)
        return np.concatenate([score(self._by_entry(self.weight, slice(at, at + few))) for at in starts])

    def total(self, by_entry: Scores) -> Scores:
        """Sum a score of entries over each channel. Shapes: (entries,) -> (channels,)."""
        return np.bincount(self.channel, weights=by_entry, minlength=self.channels).astype(np.float64)


@dataclass(frozen=True)
class GroupWeights:
    """All members of one group. ``seed`` is for criteria that draw numbers."""

    name: str
    channels: int
    members: Sequence[Member]
    seed: int

    def having(self, *roles: Role) -> list[Member]:
        return [m for m in self.members if m.role in roles]

    def row_mean(self, score: Callable[[Scores], Scores], *roles: Role) -> Scores:
        """The same as ``mean`` for a score that looks at each row by itself, in little memory. Shapes: (channels,)."""
        chosen = self.having(*roles)
        return np.asarray(np.mean([m.total(m.scored(score)) for m in chosen] or [np.zeros(self.channels)], axis=0))

    def mean(self, score: Callable[[Scores], Scores], *roles: Role) -> Scores:
        """Score rows, sum them over each channel's entries, average over members. Shapes: (channels,)."""
        chosen = self.having(*roles)
        if not chosen:
            return np.zeros(self.channels)
        return np.asarray(np.mean([m.total(score(m.rows)) for m in chosen], axis=0))


class Weights:
    """Members of all groups of a coupling, found once."""

    def __init__(
        self,
        coupling: Coupling,
        inputs: Mapping[int, Inputs] | None = None,
        gradients: Mapping[str, Gradient] | None = None,
    ) -> None:
        """``inputs`` are what ``collected`` gives, ``gradients`` those of the loss, where a criterion needs them."""
        self.coupling, self.inputs, self.gradients = coupling, inputs or {}, gradients
        self._uses = self._count_uses()
        self._stands: dict[int, list[tuple[str, int, IntArray, IntArray]]] = defaultdict(list)
        self._place()

    def group(self, number: int, removal: Removal, seed: int) -> GroupWeights:
        """A group as it is after a removal: rows and columns of other groups that went are not there."""
        group = self.coupling.groups[number]
        members = [
            self._member(group, name, axis, entries, atoms, removal)
            for name, axis, entries, atoms in self._stands[number]
        ]
        return GroupWeights(group.name, len(group.atoms), members, seed)

    def _place(self) -> None:
        """For each group the constants' axes it stands on, with entries and atoms."""
        owner = owners(self.coupling, self.coupling.groups)
        axes = ((name, axis, x) for name in self._uses for axis, x in enumerate(self.coupling.axes(name)))
        for name, axis, labels in axes:
            if isinstance(labels, Why):
                continue
            entries, found = self.coupling.solution.meets(labels)
            for number in np.unique(owner[found]):
                mine = owner[found] == number
                self._stands[int(number)].append((name, axis, entries[mine], found[mine]))

    def _member(
        self, group: Group, name: str, axis: int, entries: IntArray, atoms: IntArray, removal: Removal
    ) -> Member:
        whole = self.coupling.model.weights[name]
        weight, gradient = _left(whole, axis, removal.tensor(name)), None
        if self.gradients is not None:
            both = self.gradients.get(name) or Gradient.none(whole.shape)
            mean, squares, curved = both
            gone = removal.tensor(name)
            gradient = Gradient(
                _left(mean, axis, gone),
                _left(squares, axis, gone),
                None if curved is None else _left(curved, axis, gone),
            )
        channel = np.searchsorted(group.atoms, atoms)
        node, uses = self._uses[name]
        role = self._role(name, axis)
        gain = self._gain(node) if role == "out" else None
        gain = gain[entries] if gain is not None and len(gain) == whole.shape[axis] else None
        seen = self._seen(name, axis, entries) if role == "in" else None
        channels = len(group.atoms)
        return Member(name, axis, role, weight, entries, channel, channels, node, uses, gain, seen, gradient)

    def _seen(self, name: str, axis: int, entries: IntArray) -> Inputs | None:
        labels = self.coupling.trace.axes[name][axis]
        found = self.inputs.get(id(labels))
        return None if found is None or isinstance(labels, Why) else found.at(entries, len(labels))

    def _count_uses(self) -> dict[str, tuple[int, float]]:
        """Constants in graph order: first node that reads each, and how often a run uses each weight.

        Packed signs are all of one size: what tells their channels apart is the scales.
        """
        found: dict[str, tuple[int, float]] = {}
        for index, node in enumerate(self.coupling.nodes):
            signs = holds_signs(node)
            for i, name in enumerate(node.input):
                weight = self.coupling.model.weights.get(name)
                if weight is not None and name in self.coupling.trace.axes and name not in found and i != signs:
                    found[name] = (index, self.coupling.macs(index) / max(1, weight.size))
        return found

    @cached_property
    def _summed(self) -> set[int]:
        """Identities of label arrays of constants (also transposed or reshaped ones) that some node sums over."""
        constant, trace = index_of(self.coupling.model).constant, self.coupling.trace
        found = set()
        for c in trace.contractions:
            name = self.coupling.nodes[c.node].input[c.position]
            if name in constant:
                found.add(id(trace.axes[name][c.axis]))
        return found

    def _role(self, name: str, axis: int) -> Role:
        node = self.coupling.nodes[self._uses[name][0]]
        position = list(node.input).index(name)
        if node.op_type == "BatchNormalization":
            roles: tuple[Role, ...] = ("other", "scale", "shift", "other", "other")
            return roles[position]
        if id(self.coupling.trace.axes[name][axis]) in self._summed:
            return "in"
        if self.coupling.model.weights[name].ndim > 1:
            return "out"
        return "shift" if node.op_type == "Add" or operator(node).bias == position else "other"

    def _gain(self, index: int) -> np.ndarray | None:
        """What a BatchNormalization right after the node multiplies its channels by."""
        output = self.coupling.nodes[index].output[0]
        after = self._normalized.get(output)
        if after is None:
            return None
        node = self.coupling.nodes[after]
        weights = self.coupling.model.weights
        scale, variance = weights.get(node.input[1]), weights.get(node.input[4])
        if scale is None or variance is None:
            return None
        return np.asarray(np.abs(scale) / np.sqrt(variance + attribute(node, "epsilon", 1e-5)))

    @cached_property
    def _normalized(self) -> dict[str, int]:
        nodes = enumerate(self.coupling.nodes)
        return {n.input[0]: i for i, n in nodes if n.op_type == "BatchNormalization"}


def _left(values: np.ndarray, axis: int, removed: Mapping[int, np.ndarray]) -> np.ndarray:
    """Without what went along other axes."""
    for other, mask in removed.items():
        if other != axis:
            values = spilled(np.compress(mask, values, axis=other))
    return values
