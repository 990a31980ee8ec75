"""Bias absorption: what a removed channel gave on average goes into the biases of the layers that read it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from ...graph.coupling import Coupling, Removal
from ...graph.errors import IntaglioError
from ...graph.nodes import attribute, captured, display_name
from ..base import Context
from ..calibration.layers import Layer, Layers
from ..calibration.normal import Normal, moments
from .repair import REPAIRS, Repaired

Floats = NDArray[np.float64]


@REPAIRS.register("absorb")
def absorb(removal: Removal, context: Context) -> Repaired:
    """Add the mean of what each layer loses to its bias; needs BatchNormalization, no data.

    Padding is taken for more of the same, so outputs at an image's border get a little too much.

    Source: the means are those of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction", ICCV 2019, arXiv:1906.04721.

    Raises:
        IntaglioError: nothing tells the mean of any removed channel.
    """
    consumers = find_consumers(removal, "absorb")
    shifts = Shifts(removal.coupling)
    for c in consumers.known:
        shifts.add(c.layer, c.lost(c.means * c.removed))
    return Repaired(
        shifts.weights, {"layers": len(consumers), "absorbed": shifts.done}, [*consumers.notes, *shifts.notes]
    )


@dataclass(frozen=True)
class Consumer:
    """A layer that loses inputs and whose other outputs stay. ``x`` is what is known of its input.

    Shapes: removed, means (channels,); kept (outputs,).
    """

    layer: Layer
    x: Normal
    removed: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    weight: Floats = field(repr=False)

    @property
    def means(self) -> Floats:
        return np.broadcast_to(self.x.along(self.layer.channel_axis)[0], self.removed.shape)

    def lost(self, inputs: Floats) -> Floats:
        """What constant inputs add to outputs away from borders. Shapes: (channels,) -> (outputs,)."""
        columns = self.layer.column_channels(len(inputs))
        return np.where(self.kept, np.einsum("goc,gc->go", self.weight, inputs[columns]).reshape(-1), 0.0)


@dataclass(frozen=True)
class Consumers:
    """Layers that lose inputs: those of whose input something is known, and how many others; what cannot be helped."""

    known: Sequence[Consumer]
    unknown: Sequence[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.known) + len(self.unknown)


def find_consumers(removal: Removal, method: str) -> Consumers:
    """The layers that lose inputs. Raises IntaglioError if there are some and nothing is known of any."""
    coupling = removal.coupling
    layers = list(Layers(coupling.model))
    found = moments(coupling.model, coupling.prepared.shapes.dims)
    known, unknown = [], []
    for layer in layers:
        removed = _gone(removal, layer.x, layer.channel_axis)
        kept = ~_gone(removal, layer.output, layer.channel_axis)
        if not removed.any() or not kept.any() or layer.groups == len(removed):
            continue
        if layer.x in found:
            weight = layer.matrix(coupling.model.weights[layer.weight])
            known.append(Consumer(layer, found[layer.x], removed, kept, weight))
        else:
            unknown.append(layer.node)
    if unknown and not known:
        raise _impossible(coupling, method)
    notes = _told("nothing is known of the input of", unknown, "so the mean they lose is not made up for")
    return Consumers(known, unknown, [*notes, *_told(*_without_weight(removal, layers))])


def _gone(removal: Removal, tensor: str, axis: int) -> NDArray[np.bool_]:
    dims = removal.coupling.prepared.shapes.dims[tensor]
    mask = removal.tensor(tensor).get(axis % len(dims))
    return np.zeros(dims[axis], dtype=bool) if mask is None else ~mask


def _without_weight(removal: Removal, layers: Sequence[Layer]) -> tuple[str, list[str], str]:
    """Nodes that sum over removed channels and are no layers, as attention scores are not."""
    coupling, seen = removal.coupling, {layer.node for layer in layers}
    names = []
    for c in coupling.trace.contractions:
        node = coupling.nodes[c.node]
        shrinks = c.axis in removal.tensor(node.input[c.position])
        if shrinks and node.output[0] not in seen and display_name(node) not in names:
            names.append(display_name(node))
    return "no constant weight meets the removed channels in", names, "so the mean they lose is not made up for"


def _told(what: str, names: Sequence[str], therefore: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(names[:3])}{more}, {therefore}"]


def _impossible(coupling: Coupling, method: str) -> IntaglioError:
    alive = any(n.op_type == "BatchNormalization" for n in coupling.nodes)
    return IntaglioError(
        f"{method} is not possible for this model: nothing tells the means of the removed channels",
        why="no BatchNormalization comes before them"
        if alive
        else "BatchNormalization was folded into other layers before import, and its statistics with it",
        fix="give calibration data (--criterion obspa --data DATA), or export the model with BatchNormalization kept",
    )


class Shifts:
    """What is to be added to constants so that layers' outputs are shifted. ``done`` counts the layers."""

    def __init__(self, coupling: Coupling) -> None:
        self.model, self.dims = coupling.model, coupling.prepared.shapes.dims
        self.deltas: dict[str, Floats] = {}
        self.done = 0
        self._blocked: list[str] = []
        self._outputs = {o.name for o in self.model.graph.output}
        self._readers: Mapping[str, list[onnx.NodeProto]] = defaultdict(list)
        self._uses: Counter[str] = Counter()
        for node in coupling.nodes:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)
            self._uses.update([*node.input, *captured(node)])
            self._outputs |= captured(node)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The shifted constants."""
        old = self.model.weights
        return {k: np.asarray(old[k] + d.reshape(old[k].shape), dtype=old[k].dtype) for k, d in self.deltas.items()}

    @property
    def notes(self) -> list[str]:
        return _told("no bias can take up the mean that is lost in", self._blocked, "so it is not made up for")

    def add(self, layer: Layer, shift: Floats) -> bool:
        """Shift a layer's output. False, and nothing is changed, where no bias takes it. Shapes: shift (outputs,)."""
        changes = self._into_bias(layer, shift)
        if changes is None:
            shape = np.ones(len(self.dims[layer.output]), dtype=np.int64)
            shape[layer.channel_axis] = -1
            changes = self.pushed(layer.output, shift.reshape(shape))
        if changes is None:
            self._blocked.append(layer.node)
            return False
        for name, delta in changes:
            self.deltas[name] = self.deltas.get(name, 0.0) + delta
        self.done += 1
        return True

    def _into_bias(self, layer: Layer, shift: Floats) -> list[tuple[str, Floats]] | None:
        if layer.bias is None or not self.owns(layer.bias):
            return None
        return [(layer.bias, shift / layer.beta)]

    def owns(self, name: str) -> bool:
        """Whether a constant is read in one place only."""
        return name in self.model.weights and self._uses[name] == 1 and name not in self._outputs

    def pushed(self, tensor: str, shift: Floats) -> list[tuple[str, Floats]] | None:
        """Shift a tensor by what its readers can take up, however far behind it. None where one cannot."""
        if tensor in self._outputs:
            return None
        changes = []
        for node in self._readers[tensor]:
            rule = _PUSHES.get(node.op_type)
            found = rule(self, node, tensor, shift) if rule and list(node.input).count(tensor) == 1 else None
            if found is None:
                return None
            changes.extend(found)
        return changes


Change = tuple[str, Floats]
Push = Callable[[Shifts, onnx.NodeProto, str, Floats], "list[Change] | None"]


def _normalized(s: Shifts, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    """BatchNormalization subtracts its mean."""
    mean = node.input[3]
    if tensor != node.input[0] or not s.owns(mean) or s.model.weights[mean].size != shift.size:
        return None
    return [(mean, -shift.reshape(-1))]


def _added(s: Shifts, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    """A constant takes it up; what is added to another activation goes on."""
    other = next(name for name in node.input if name != tensor)
    if s.owns(other):
        shape = s.model.weights[other].shape
        if np.broadcast_shapes(shape, shift.shape)[-len(shape) :] == shape:
            return [(other, np.broadcast_to(shift, np.broadcast_shapes(shape, shift.shape)).reshape(shape))]
    return s.pushed(node.output[0], shift)


def _passed(s: Shifts, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    return s.pushed(node.output[0], shift)


def _concatenated(s: Shifts, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    axis = attribute(node, "axis") % shift.ndim
    parts = []
    for name in node.input:
        shape = list(shift.shape)
        shape[axis] = s.dims[name][axis]
        parts.append(np.broadcast_to(shift if name == tensor else 0.0, shape))
    return s.pushed(node.output[0], np.concatenate(parts, axis=axis))


_PUSHES: dict[str, Push] = {
    "BatchNormalization": _normalized,
    "Add": _added,
    "Concat": _concatenated,
    "Identity": _passed,
    "Dropout": _passed,
    "AveragePool": _passed,
    "GlobalAveragePool": _passed,
}
