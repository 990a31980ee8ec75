"""For each group: in which order its channels go, and what that costs the layers that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....graph.layer import Floats, Ints, Layer
from ...calibration.activation_cache import ActivationCache, each
from ...calibration.moments import Moments, blas_threads_for
from ...calibration.reconstruct import RIDGE, damp_hessian, inverse
from ...calibration.samples import PATCHES, moments_of, moments_of_patches, positions_of, samples_of
from ...calibration.targets import ReconstructionTarget, ReconstructionTargets
from ..readers import Readers, Seat
from .elimination import Elimination, Reader, eliminate


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


def arrays_of(curves: Sequence[Curve]) -> dict[str, np.ndarray]:
    """Curves as arrays, to be kept."""
    found: dict[str, np.ndarray] = {}
    for k, one in enumerate(curves):
        looks = np.array(sorted(one.measured.items()), dtype=np.float64).reshape(-1, 2)
        found |= {f"order{k}": one.order, f"losses{k}": one.losses, f"measured{k}": looks}
        found[f"shared{k}"] = np.array(one.shared)
    return found


def curves_of(arrays: Mapping[str, np.ndarray], count: int) -> list[Curve]:
    """The same again."""
    return [
        Curve(
            arrays[f"order{k}"],
            arrays[f"losses{k}"],
            {int(gone): float(harm) for gone, harm in arrays[f"measured{k}"]},
            bool(arrays[f"shared{k}"]),
        )
        for k in range(count)
    ]


class Curves:
    """Orders the channels of groups on the statistics of the original network."""

    def __init__(
        self,
        readers: Readers,
        cache: ActivationCache,
        targets: ReconstructionTargets,
        *,
        ridge: float = RIDGE,
        most: int = PATCHES,
    ) -> None:
        """The cache's model may have other weights than the one analysed, of the same shapes and by the same names."""
        self.readers, self.cache, self.targets = readers, cache, targets
        self.strength, self.most = ridge, most

    def groups(self, numbers: Sequence[int], limit: int) -> Iterator[list[int]]:
        """The groups in graph order, as many at a time as their layers' matrices fit into so many bytes.

        Their inverses take as much again.
        """
        first = {k: min((s.layer.place for s in self.readers.seats(k)), default=-1) for k in numbers}
        chunk: list[int] = []
        layers: dict[str, int] = {}
        for k in sorted(numbers, key=lambda k: (first[k], k)):
            more = {s.layer.node: 8 * s.channel.shape[0] * s.channel.shape[1] ** 2 for s in self.readers.seats(k)}
            if chunk and sum({**layers, **more}.values()) > limit:
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
        found: dict[str, Moments] = {}
        ordered = [(layer, ReconstructionTarget(self.targets.of(layer).tensor)) for layer in self._reading(numbers)]
        names, after = [self._read(layer) for layer, _ in ordered], self._read(*self._reading(later))
        for layer, target in each(self.cache, list(zip(ordered, names, strict=True)), after):
            positions = positions_of(layer, self.cache, self.most)
            found[layer.node] = moments_of(layer, samples_of(layer, target, self.cache, self.cache, positions))
        return found

    def pass_by(self, numbers: Sequence[int], later: Sequence[int] = ()) -> None:
        """Hold what the run for ``later`` groups goes on from, as ``moments`` does, and look at nothing."""
        ordered = self._reading(numbers)
        for _ in each(self.cache, [(one, self._read(one)) for one in ordered], self._read(*self._reading(later))):
            pass

    def _read(self, *layers: Layer) -> list[str]:
        """The tensors that statistics of layers are taken of."""
        return [name for layer in layers for name in (layer.x, self.targets.of(layer).tensor)]

    def _reading(self, numbers: Sequence[int]) -> list[Layer]:
        """The layers that read the groups, in graph order."""
        layers = {s.layer.node: s.layer for k in numbers for s in self.readers.seats(k)}
        return sorted(layers.values(), key=lambda layer: layer.place)

    def patches(self, layers: Sequence[Layer]) -> Iterator[tuple[Layer, Moments]]:
        """Statistics of what some layers read, one layer after the other in graph order."""
        ordered = sorted(layers, key=lambda layer: layer.place)
        for layer in each(self.cache, [(layer, [layer.x]) for layer in ordered]):
            yield layer, moments_of_patches(layer, self.cache, positions_of(layer, self.cache, self.most))

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
                h = stats.hessian(centred=layer.bias is not None)
                with blas_threads_for(h.shape[1]):
                    inverses[layer.node] = [inverse(damp_hessian(m, self.strength)) for m in h]
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
