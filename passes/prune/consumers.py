"""The layers that lose inputs by a removal, and what BatchNormalization tells of those inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...graph.coupling import Coupling, Removal
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.nodes import display_name
from ..calibration.normal.moments import Floats, Normal, moments
from .repair.repair import RepairImpossible

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Consumer:
    """A layer that loses inputs while outputs stay. ``x`` is what is known of its input.

    Shapes: removed (inputs,), kept (outputs,), taps (groups, outputs per group, positions, inputs per group).
    """

    layer: Layer
    x: Normal
    removed: Mask
    kept: Mask
    taps: Floats = field(repr=False)

    @property
    def one_to_one(self) -> bool:
        """Whether each input of the layer has an entry of its own in ``x``."""
        return self.x.mean.size == len(self.removed)

    def moments(self) -> tuple[Floats, Floats]:
        """Mean and variance of each input. Shapes: (inputs,)."""
        mean, variance = self.x.along(self.layer.x_axis)
        return np.broadcast_to(mean, self.removed.shape), np.broadcast_to(variance, self.removed.shape)

    def without(self, taps: Floats) -> Floats:
        """Taps that do not see the removed inputs."""
        groups, _, _, width = taps.shape
        return np.where(self.removed.reshape(groups, 1, 1, width), 0.0, taps)

    def lost_mean(self, taps: Floats) -> Floats:
        """By how much outputs' means fall if the layer gets these taps; borders count as inside. Shapes: (outputs,)."""
        mean, _ = self.moments()
        gap = (self.taps - self.without(taps)).sum(axis=2)
        lost = np.einsum("goi,gi->go", gap, mean.reshape(len(gap), -1)).reshape(-1)
        return np.where(self.kept, lost, 0.0)

    def variance(self, taps: Floats, covariance: Floats | None = None) -> Floats:
        """Of outputs, as if neighbouring positions were independent, and inputs too where no covariance is given."""
        groups, _, _, width = taps.shape
        if covariance is None:
            _, variance = self.moments()
            return np.einsum("gopi,gi->go", np.square(taps), variance.reshape(groups, width)).reshape(-1)
        blocks = [covariance[g * width : (g + 1) * width, g * width : (g + 1) * width] for g in range(groups)]
        return np.concatenate([((w @ s) * w).sum(axis=(1, 2)) for w, s in zip(taps, blocks, strict=True)])


@dataclass(frozen=True)
class Consumers:
    """Layers that lose inputs: those of whose input something is known, the names of others; notes on what is missed."""

    known: Sequence[Consumer]
    unknown: Sequence[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.known) + len(self.unknown)


def find_consumers(removal: Removal, method: str, *, correlated: bool = False) -> Consumers:
    """The layers that lose inputs. Raises RepairImpossible if there are some and nothing is known of any."""
    coupling = removal.coupling
    layers = list(Layers(coupling.model))
    dims = coupling.prepared.shapes.dims
    found = moments(coupling.model, dims, correlated=correlated)
    known, unknown = [], []
    for layer in layers:
        if layer.x not in dims or layer.output not in dims:
            continue  # of unknown shape, so frozen
        removed = _gone(removal, layer.x, layer.x_axis)
        kept = ~_gone(removal, layer.output, layer.y_axis)
        if not removed.any() or not kept.any() or (layer.groups > 1 and layer.groups == len(removed)):
            continue
        if layer.x in found:
            weight = layer.matrix(coupling.model.weights[layer.weight])
            taps = weight.reshape(*weight.shape[:2], -1, len(removed) // layer.groups)
            known.append(Consumer(layer, found[layer.x], removed, kept, taps))
        else:
            unknown.append(layer.node)
    if unknown and not known:
        raise impossible(coupling, method)
    notes = note_unrepaired("nothing is known of the input of", unknown)
    return Consumers(
        known,
        unknown,
        [*notes, *note_unrepaired("no layer that a bias corrects reads removed channels in", _others(removal, layers))],
    )


def _gone(removal: Removal, tensor: str, axis: int) -> Mask:
    dims = removal.coupling.prepared.shapes.dims[tensor]
    mask = removal.tensor(tensor).get(axis % len(dims))
    return np.zeros(dims[axis], dtype=bool) if mask is None else ~mask


def _others(removal: Removal, layers: Sequence[Layer]) -> list[str]:
    """Nodes that sum over removed channels and are no layers, as attention scores are not."""
    coupling, seen = removal.coupling, {layer.node for layer in layers}
    found: dict[str, None] = {}
    for c in coupling.trace.contractions:
        node = coupling.nodes[c.node]
        if c.axis in removal.tensor(node.input[c.position]) and node.output[0] not in seen:
            found[display_name(node)] = None
    return list(found)


def note_unrepaired(what: str, names: Sequence[str]) -> list[str]:
    """A note on layers whose loss is not made up for; none without such layers."""
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(names[:3])}{more}, so the mean lost there is not made up for"]


def impossible(coupling: Coupling, method: str) -> RepairImpossible:
    alive = any(n.op_type == "BatchNormalization" for n in coupling.nodes)
    return RepairImpossible(
        f"{method} is not possible for this model: nothing tells what its channels are like without data",
        why="no BatchNormalization comes before the channels"
        if alive
        else "it needs the statistics of BatchNormalization, and the model has none: it was folded into other layers before "
        "import, or was never there",
        fix="give calibration data (--criterion obspa --data DATA), or export the model with BatchNormalization kept",
    )
