"""Which layers read the channels of each group, and by which columns of their matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...graph.coupling import Coupling
from ...graph.coupling.groups import owners
from ...graph.coupling.labels import Why
from ...graph.coupling.node import Contraction
from ...graph.layer import Ints, Layer
from ...graph.layers import Layers


@dataclass(frozen=True)
class Seat:
    """A group at a layer. ``channel`` (groups of the layer, columns) numbers the group's channels, -1 for none."""

    layer: Layer
    channel: Ints


class Readers:
    """The layers of a coupling's model and where groups meet them."""

    def __init__(self, coupling: Coupling) -> None:
        self.coupling = coupling
        self.layers = Layers(coupling.model)

    def seats(self, group: int) -> Sequence[Seat]:
        """Where a group is read, in graph order."""
        return self._seats.get(group, [])

    @cached_property
    def _owner(self) -> tuple[Ints, Ints]:
        """Group of each atom, and its number in it."""
        owner = owners(self.coupling, self.coupling.groups)
        number = np.zeros(len(owner), dtype=np.int64)
        for group in self.coupling.groups:
            number[group.atoms] = np.arange(len(group.atoms))
        return owner, number

    @cached_property
    def _seats(self) -> Mapping[int, Sequence[Seat]]:
        found: dict[int, list[Seat]] = defaultdict(list)
        for layer in self.layers:
            for k, channels in self.channels(layer).items():
                found[k].append(Seat(layer, channels[layer.column_channels]))
        return found

    def channels(self, layer: Layer) -> dict[int, Ints]:
        """For each group that a layer reads: the group's channel at each index of the axis it sums over, or -1.

        A group of which several channels meet in one index is left out: no index is one channel's own there.
        """
        axis = layer.x_axis
        if layer.groups > 1 and layer.groups == self.coupling.prepared.shapes.dims.get(layer.x, (0, 0))[axis]:
            return {}
        entry, found = self._atoms_at(layer.x, axis)
        owner, _ = self._owner
        pairs, counts = np.unique(np.stack([entry, owner[found]]), axis=1, return_counts=True)
        crowded = set(pairs[1][counts > 1].tolist())
        return {k: channel for k, channel in self.at(layer.x, axis).items() if k not in crowded}

    def opaque(self, group: int) -> Sequence[Contraction]:
        """Sums over the group's channels that no layer makes: products of two activations, recurrent cells."""
        return self._opaque.get(group, [])

    @cached_property
    def _opaque(self) -> Mapping[int, Sequence[Contraction]]:
        nodes, seen = self.coupling.nodes, {layer.node for layer in self.layers}
        found: dict[int, list[Contraction]] = defaultdict(list)
        for mark in self.coupling.trace.contractions:
            node = nodes[mark.node]
            if node.output[0] not in seen:
                for k in self.at(node.input[mark.position], mark.axis):
                    found[k].append(mark)
        return found

    def at(self, tensor: str, axis: int) -> dict[int, Ints]:
        """For each group its channel at each index of a tensor's axis, -1 where there is none."""
        entry, found = self._atoms_at(tensor, axis)
        owner, number = self._owner
        result = {}
        for k in np.unique(owner[found]):
            if k >= 0:
                mine = owner[found] == k
                result[int(k)] = np.full(self.coupling.prepared.shapes.dims[tensor][axis], -1, dtype=np.int64)
                result[int(k)][entry[mine]] = number[found[mine]]
        return result

    def _atoms_at(self, tensor: str, axis: int) -> tuple[Ints, Ints]:
        """Pairs of an index of an axis and an atom that takes it away."""
        axes = self.coupling.axes(tensor)
        labels = axes[axis] if axes else None
        if labels is None or isinstance(labels, Why):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return self.coupling.solution.meets(labels)
