"""Compress a network from its inputs to its outputs: choose what goes where it is read, refit what reads it.

Every layer sees what the compressed network really feeds it and aims at what the original made, so that each repairs
what went wrong before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ....graph.coupling import Coupling, Removal, remove
from ....graph.coupling.certificate import too_short
from ....graph.coupling.solve import BoolArray
from ....graph.errors import BadModel
from ....graph.layer import Floats, Ints, Layer
from ....graph.layers import Layers
from ....graph.nodes import reads
from ...base import Context
from ...calibration.activation_cache import STORE_BYTES, ActivationCache, Batch, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.moments import Moments, blas_threads_for, one_blas_thread
from ...calibration.patches import output_shape, outputs_at, patch_shape, patches, spread_places
from ...calibration.reconstruct import RIDGE, Fit, Sample, damped, inverse, refit_through, ridge
from ...calibration.samples import PATCHES, patches_for
from ...calibration.targets import ReconstructionTarget, ReconstructionTargets
from ..obspa.elimination import Reader, eliminate
from ..readers import Readers
from .repair import REPAIRS, Repaired, with_weights


@dataclass
class Refitted:
    """``removed`` atoms, and the constants that changed, at full width."""

    removed: BoolArray
    weights: dict[str, Floats]
    layers: int = 0


@dataclass
class Refit:
    """One walk. ``keep`` maps groups that may choose anew to their widths; ``removed`` is settled from the start."""

    readers: Readers
    targets: ReconstructionTargets
    original: ActivationCache
    compressed: ActivationCache
    removed: BoolArray
    keep: dict[int, int]
    planned: BoolArray
    strength: float = RIDGE
    rows: int = PATCHES
    aware: int = 2
    tick: Callable[[int, int | None], None] = lambda done, total: None
    _weights: dict[str, Floats] = field(default_factory=dict)

    def run(self) -> Refitted:
        coupling = self.readers.coupling
        layers = [layer for layer in self.readers.layers if not self.readers.tied(layer)]
        self._removal = Removal(coupling, self.removed)
        self._update()
        self._dirty: set[str] = set()
        self._walked = 0
        count = 0
        for i, layer in enumerate(layers):
            if layer.output not in self._layers:
                continue  # nobody reads it, so it went with the nodes that nobody reads
            target = self.targets.of(layer)
            self._spread(self.readers.place[layer.node])
            deciding = [k for k in self.keep if any(s.layer.node == layer.node for s in self.readers.seats(k))]
            if deciding or self._dirty.intersection((layer.x, *target.others)) or layer.x in self._removal.shrinking:
                self._layer(layer, target, deciding)
                count += 1
                self._dirty.update((layer.output, target.tensor))
            later = [(one, self.targets.of(one)) for one in layers[i + 1 :]]
            self.compressed.retain([name for one, g in later for name in (one.x, *g.others)])
            self.original.retain([g.tensor for _, g in later])
            self.tick(i + 1, len(layers))
        for k in self.keep:  # a group whose reader is gone stays as planned
            atoms = coupling.groups[k].atoms
            self.removed[atoms] = self.planned[atoms]
        return Refitted(self.removed, self._weights, count)

    def _spread(self, place: int) -> None:
        """Mark what is no longer as in the original, up to a node."""
        for node in self.readers.coupling.nodes[self._walked : place]:
            if self._dirty.intersection(reads(node)) or self._removal.shrinking.intersection(
                (*node.input, *node.output)
            ):
                self._dirty.update(o for o in node.output if o)
        self._walked = max(self._walked, place)

    def _update(self) -> None:
        """Cut the compressed network anew."""
        self._removal = with_weights(Removal(self.readers.coupling, self.removed), self._weights)
        self.compressed.model = remove(self._removal)
        self._layers = Layers(self.compressed.model).by_output

    def _layer(self, layer: Layer, target: ReconstructionTarget, deciding: Sequence[int]) -> None:
        now = self._layers[layer.output]
        self.compressed.hold([now.x, *target.others])
        self.original.hold([target.tensor])
        model = self.compressed.model
        rows = patches_for(now.columns, self.rows)
        moments = Moments()
        moments.add_all(partial(_plain, make) for make in self._samples(now, target, rows))
        old = now.matrix(model.weights[now.weight])
        centred = now.bias is not None
        with blas_threads_for(old.shape[2]):
            if deciding:
                keep = self._decide(deciding, now, moments, old[0])
                self._cut()
                now = self._layers[layer.output]
                old, moments = old[:, :, keep], moments.only(keep)
            fit = ridge(moments, old, centred=centred, strength=self.strength)
        if target.activation_bounds is not None and centred and self.aware:
            fit = refit_through(
                target.activation_bounds,
                lambda: self._samples(now, target, rows),
                moments,
                fit,
                old,
                rounds=self.aware,
                strength=self.strength,
            )
        self._write(layer, now, fit)

    def _samples(self, layer: Layer, target: ReconstructionTarget, rows: int) -> Iterator[Callable[[], Sample]]:
        positions = -(-rows // self.compressed.samples)
        masks = self._removal.tensor(target.tensor)
        pairs = zip(
            self.compressed.batches([layer.x, *target.others]), self.original.batches([target.tensor]), strict=True
        )

        def sample(ours: Batch, theirs: Batch, keys: Ints) -> Sample:
            wanted = theirs[target.tensor]
            along = patch_shape(layer, ours[layer.x])
            if any(output_shape(layer, y) != along for y in (wanted, *(ours[n] for n in target.others))):
                raise _unsteady(layer)
            chosen = spread_places(layer, ours[layer.x], positions, keys)
            for axis, mask in masks.items():
                wanted = np.compress(mask, wanted, axis=axis)
            others = sum((outputs_at(layer, ours[name], chosen) for name in target.others), 0.0)
            return Sample(patches(layer, ours[layer.x], chosen), outputs_at(layer, wanted, chosen), others)

        for (ours, theirs), keys in zip(pairs, self.compressed.keys, strict=True):
            yield partial(sample, ours, theirs, keys)

    def _decide(self, deciding: Sequence[int], layer: Layer, moments: Moments, old: Floats) -> BoolArray:
        """Choose channels of groups by what this layer really gets. Returns which columns stay."""
        centred = layer.bias is not None
        h, r = moments.covariance[0], moments.cross[0]
        if not centred:
            h, r = moments.second_moment[0], r + moments.target_mean[0][:, None] * moments.mean[0]
        keep = np.ones(len(h), dtype=bool)
        for group in deciding:
            columns = np.flatnonzero(keep)
            damp = damped(h[np.ix_(columns, columns)], self.strength)
            inverted = inverse(damp)
            pull = damp[0, 0] - h[columns[0], columns[0]]
            weight = (r[:, columns] + pull * old[:, columns]) @ inverted
            channel = self._channels(group, layer)
            atoms = self.readers.coupling.groups[group].atoms
            steps = len(atoms) if len(atoms) <= 128 else 64
            reader = Reader(weight, inverted, channel[columns])
            gone = eliminate([reader], len(atoms), down_to=self.keep.pop(group), steps=steps).order
            self.removed = self.removed.copy()
            self.removed[atoms[gone]] = True
            keep &= ~np.isin(channel, gone)
        return keep

    def _channels(self, group: int, layer: Layer) -> Ints:
        """The group's channel of each column as the layer stands now, -1 for none."""
        wide = self.readers.at(layer.x, layer.x_axis)[group]
        mask = self._removal.tensor(layer.x).get(layer.x_axis % len(self.readers.coupling.axes(layer.x)))
        here = wide if mask is None else wide[mask]
        return np.asarray(here[layer.column_channels][0])

    def _cut(self) -> None:
        """Cut the network and what is held of it to what stays."""
        before = self._removal
        self._update()
        for name in self.compressed.held:
            old, new = before.tensor(name), self._removal.tensor(name)
            for axis, mask in new.items():
                left = mask[old[axis]] if axis in old else mask
                if not left.all():
                    self.compressed.replace(name, lambda v, m=left, a=axis: np.compress(m, v, axis=a))

    def _write(self, layer: Layer, now: Layer, fit: Fit) -> None:
        """Put the new weights into the compressed network, and into the full-width constants where they belong."""
        model = self.compressed.model
        new = {now.weight: now.weight_like(fit.weight, model.weights[now.weight])}
        full = {now.weight: layer.weight}
        if now.bias is not None and layer.bias is not None:
            new[now.bias] = now.bias_like(fit.offset, model.weights[now.bias])
            full[now.bias] = layer.bias
        for small, value in new.items():
            name = full[small]
            wide = np.array(self._weights.get(name, self.readers.coupling.model.weights[name]))
            masks = self._removal.tensor(name)
            wide[np.ix_(*[masks.get(a, np.ones(n, dtype=bool)) for a, n in enumerate(wide.shape)])] = value
            self._weights[name] = wide
            model.weights[small] = value


def _unsteady(layer: Layer) -> BadModel:
    return BadModel(
        f"{layer.op} {layer.node!r} cannot be refitted: the compressed network gives it other shapes than the original",
        why="shapes that depend on values, as after NonZero, do not stay comparable",
        fix="choose by weights alone, such as --criterion l2, or --exclude what comes before it",
    )


def _plain(make: Callable[[], Sample]) -> tuple[Floats, Floats]:
    sample = make()
    return sample.patches, sample.target


def locally_decided(readers: Readers, numbers: Sequence[int]) -> list[int]:
    """Groups that one plain layer alone reads: they can be chosen when the compressed network has come that far."""
    groups = readers.coupling.groups
    found = []
    for k in numbers:
        seats = readers.seats(k)
        alone = len(seats) == 1 and groups[k].bundle < 0 and not readers.opaque(k)
        if alone and seats[0].layer.groups == 1 and not readers.tied(seats[0].layer):
            found.append(k)
    return found


def fits(coupling: Coupling, removed: BoolArray) -> bool:
    """Whether no axis becomes too short."""
    return too_short(Removal(coupling, removed)) is None


@REPAIRS.register("refit")
@one_blas_thread
def refit(removal: Removal, context: Context) -> Repaired:
    """Refit every layer in turn so that it gives what the original gave; needs calibration data.

    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168, and
    Zhang et al., PAMI 2016, arXiv:1505.06798 (targets through the rectifier).
    """
    coupling = removal.coupling
    batches, notes = calibration_inputs(coupling.model, context)
    readers = Readers(coupling)
    targets = ReconstructionTargets(coupling.model, coupling.prepared.shapes, readers.layers)
    with Store(STORE_BYTES, context.folder) as store:
        inputs = Inputs(batches, store)
        caches = ActivationCache(coupling.model, inputs), ActivationCache(coupling.model, inputs)
        done = Refit(
            readers, targets, caches[0], caches[1], removal.removed, {}, removal.removed, tick=context.tick
        ).run()
    return Repaired(done.weights, {"refitted": done.layers, "samples": inputs.samples}, notes)
