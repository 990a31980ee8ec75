"""For each group: in which order its channels go, and what that costs the layers that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....graph.errors import BadData
from ....graph.layer import Floats, Layer
from ...calibration.activation_cache import ActivationCache, Batch
from ...calibration.moments import Moments, blas_threads_for
from ...calibration.patches import outputs_at, patches, spread_places
from ...calibration.reconstruct import RIDGE, damped, inverse
from ...calibration.samples import PATCHES, patches_for
from ...calibration.targets import ReconstructionTargets
from ..readers import Readers, Seat
from .elimination import Elimination, Reader, eliminate

Ints = NDArray[np.int64]
Watch = Callable[[int, int, Mapping[str, tuple[Floats, Floats]]], None]
_MATRIX_BYTES = 1 << 28
"""Second moments held at once while groups are ordered, in bytes; their inverses take as much again."""


@dataclass
class Curve:
    """``losses[k]``: what the readers lose, relative to the variance of what they make, once ``k`` channels went.

    ``measured`` has the mean squared error of the network's outputs for some ``k``, relative to their variance.
    ``shared`` channels are read by several layers.
    """

    order: Ints
    losses: Floats
    measured: dict[int, float] = field(default_factory=dict)
    shared: bool = False


class Curves:
    """Orders the channels of groups on the statistics of the original network."""

    def __init__(
        self,
        readers: Readers,
        cache: ActivationCache,
        targets: ReconstructionTargets,
        *,
        ridge: float = RIDGE,
        rows: int = PATCHES,
    ) -> None:
        """The cache's model may have other weights than the one analysed, of the same shapes and by the same names."""
        self.readers, self.cache, self.targets = readers, cache, targets
        self.strength, self.rows = ridge, rows

    def groups(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """The groups in graph order, as many at a time as their layers' matrices fit into memory."""
        first = {k: min((self.readers.place[s.layer.node] for s in self.readers.seats(k)), default=-1) for k in numbers}
        chunk: list[int] = []
        layers: dict[str, int] = {}
        for k in sorted(numbers, key=lambda k: (first[k], k)):
            more = {s.layer.node: 8 * s.channel.shape[0] * s.channel.shape[1] ** 2 for s in self.readers.seats(k)}
            if chunk and sum({**layers, **more}.values()) > _MATRIX_BYTES:
                yield chunk
                chunk, layers = [], {}
            chunk.append(k)
            layers.update(more)
        if chunk:
            yield chunk

    def moments(self, numbers: Sequence[int], later: Sequence[int] = ()) -> dict[str, Moments]:
        """Statistics of all layers that read the groups: one run through the network.

        The run for ``later`` groups goes on from what is held for it, not from the inputs.
        """
        ordered, after = self._reading(numbers), self._reading(later)
        found: dict[str, Moments] = {}
        for i, layer in enumerate(ordered):
            target = self.targets.of(layer).tensor
            self.cache.hold([layer.x, target])
            found[layer.node] = self._moments(layer, target)
            left = [*ordered[i + 1 :], *after]
            self.cache.retain([name for one in left for name in (one.x, self.targets.of(one).tensor)])
        return found

    def _reading(self, numbers: Sequence[int]) -> list[Layer]:
        """The layers that read the groups, in graph order."""
        layers = {s.layer.node: s.layer for k in numbers for s in self.readers.seats(k)}
        return sorted(layers.values(), key=lambda layer: self.readers.place[layer.node])

    def rows_of(self, layers: Sequence[Layer]) -> Iterator[tuple[Layer, Moments]]:
        """Statistics of some layers' rows, one layer after the other in graph order."""
        ordered = sorted(layers, key=lambda layer: self.readers.place[layer.node])
        for i, layer in enumerate(ordered):
            self.cache.hold([layer.x])
            moments, wanted = Moments(), self._positions(layer)
            for batch, keys in zip(self.cache.batches([layer.x]), self.cache.keys, strict=True):
                chosen = spread_places(layer, batch[layer.x], wanted, keys)
                moments.add(patches(layer, batch[layer.x], chosen))
            yield layer, moments
            self.cache.retain([one.x for one in ordered[i + 1 :]])

    def _positions(self, layer: Layer) -> int:
        """Positions of each sample that are looked at."""
        columns = layer.columns
        return -(-patches_for(columns, self.rows) // self.cache.samples)

    def _moments(self, layer: Layer, target: str) -> Moments:
        moments, wanted = Moments(), self._positions(layer)

        def piece(batch: Batch, keys: Ints) -> tuple[Floats, Floats]:
            chosen = spread_places(layer, batch[layer.x], wanted, keys)
            return patches(layer, batch[layer.x], chosen), outputs_at(layer, batch[target], chosen)

        batches = zip(self.cache.batches([layer.x, target]), self.cache.keys, strict=True)
        moments.add_all(partial(piece, batch, keys) for batch, keys in batches)
        if not np.isfinite(moments.target_variance).all() or not np.isfinite(moments.mean).all():
            raise BadData(
                f"{layer.op} {layer.node!r} meets NaN or infinity on the calibration data",
                why="no statistics can be taken of that",
                fix="check the data and its --preprocess with: intaglio evaluate MODEL --data SOURCE",
            )
        return moments

    def energies(self, number: int) -> Floats:
        """What each channel of a group puts into sums that no layer makes: products of its operands' mean squares.

        Where an operand is a constant its squares count; where nothing is known of them, all channels are alike.
        """
        group = self.readers.coupling.groups[number]
        total = np.zeros(len(group.atoms))
        for mark in self.readers.opaque(number):
            node = self.readers.coupling.nodes[mark.node]
            product = np.ones(len(group.atoms))
            for name in dict.fromkeys(i for i in node.input if i):
                for axis in range(len(self.readers.coupling.axes(name))):
                    channel = self.readers.at(name, axis).get(number)
                    if channel is not None:
                        product *= _by_channel(self._mean_squares(name, axis), channel, len(group.atoms))
            total += product
        return total

    def _mean_squares(self, name: str, axis: int) -> Floats:
        """Shapes: (length of the axis,)."""
        constant = self.cache.model.weights.get(name)
        values = [constant] if constant is not None else [batch[name] for batch in self.cache.batches([name])]
        squares = [np.square(np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1), dtype=np.float64) for v in values]
        return np.asarray(sum(s.sum(axis=1) for s in squares) / sum(s.shape[1] for s in squares))

    def order(
        self,
        number: int,
        moments: Mapping[str, Moments],
        inverses: dict[str, list[Floats]],
        at: Sequence[int],
        watch: Callable[[int, Mapping[str, Any]], None] | None,
    ) -> Curve:
        """Eliminate a group's channels one by one. ``watch`` sees the readers' new weights once ``at`` have gone."""
        channels = len(self.readers.coupling.groups[number].atoms)
        seats = self.readers.seats(number)
        readers: list[Reader] = []
        owners: list[tuple[Seat, int]] = []
        for seat in seats:
            layer, stats = seat.layer, moments[seat.layer.node]
            if layer.node not in inverses:
                h = stats.covariance if layer.bias else stats.second_moment
                with blas_threads_for(h.shape[1]):
                    inverses[layer.node] = [inverse(damped(m, self.strength)) for m in h]
            old = layer.matrix(self.cache.model.weights[layer.weight])
            worth = 1.0 / max(float(stats.target_variance.sum()), 1e-30)
            for g in range(layer.groups):
                readers.append(Reader(old[g], inverses[layer.node][g], seat.channel[g], worth))
                owners.append((seat, g))

        def look(gone: int, weights: list[Floats]) -> None:
            if watch is None:
                return
            changed: dict[str, Any] = {}
            for (seat, _), weight in zip(owners, weights, strict=True):
                changed.setdefault(seat.layer.node, (seat.layer, []))[1].append(weight)
            watch(gone, changed)

        if not readers:
            return self._by_energy(number)
        steps = channels if channels <= 128 else 64
        with blas_threads_for(max(len(r.channel) for r in readers)):
            found: Elimination = eliminate(readers, channels, down_to=1, steps=steps, stops=at, watch=look, at=at)
        rest = np.setdiff1d(np.arange(channels), found.order)
        order = np.concatenate([found.order, rest]).astype(np.int64)
        losses = np.concatenate([found.losses, np.full(channels + 1 - len(found.losses), found.losses[-1])])
        return Curve(order, losses)

    def _by_energy(self, number: int) -> Curve:
        energies = self.energies(number)
        order = np.argsort(energies, kind="stable")
        losses = np.concatenate([[0.0], np.cumsum(energies[order])])
        return Curve(order, losses / losses[-1] if losses[-1] > 0 else np.linspace(0, 1, len(losses)))


def _by_channel(values: Floats, channel: Ints, channels: int) -> Floats:
    """Sum of values over the indices of each channel. Shapes: (indices,) -> (channels,)."""
    mine = channel >= 0
    return np.bincount(channel[mine], weights=values[mine], minlength=channels)
