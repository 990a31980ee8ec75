"""Absorption: what removed channels gave on average goes into the biases of the layers that read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from ....graph.coupling import Coupling, Removal
from ....graph.index import CAPTURE, index_of
from ....graph.layer import Layer
from ....graph.nodes import attribute
from ...base import Context
from ...calibration.normal.moments import Floats
from ..consumers import Consumer, find_consumers, note_unrepaired
from .repair import REPAIRS, Repaired

_LEAST_SHARE = 0.05
"""A BatchNormalization is not made to amplify what is left by more than the root of one over this."""


@REPAIRS.register("absorb")
def absorb(removal: Removal, context: Context) -> Repaired:
    """Add the mean of what each layer loses to its bias; needs BatchNormalization, no data.

    Padding is taken for more of the same, so outputs at an image's border get a little too much.

    Source: the means are those of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction", ICCV 2019, arXiv:1906.04721.

    Raises:
        RepairImpossible: nothing tells the mean of any removed channel.
    """
    return _absorbed(removal, "absorb")


@REPAIRS.register("renormalize")
def renormalize(removal: Removal, context: Context) -> Repaired:
    """``absorb``, and BatchNormalization divides by the deviation that is left; needs no data.

    A layer that lost inputs varies less than what follows it was trained on, above all behind a rectifier, whose mean
    falls with the deviation. The share of the variance that is left is that of independent inputs.

    Raises:
        RepairImpossible: nothing tells the mean of any removed channel.
    """
    return _absorbed(removal, "renormalize", rescale=True)


def _absorbed(removal: Removal, method: str, *, rescale: bool = False) -> Repaired:
    consumers, edits = find_consumers(removal, method), Edits(removal.coupling)
    absorbed = [c for c in consumers.known if edits.shift(c.layer, c.lost_mean(c.taps))]
    details = {"layers": len(consumers), "absorbed": len(absorbed)}
    if rescale:
        details["renormalized"] = sum(edits.rescale(c.layer, share_left(c, c.taps)) for c in absorbed)
    return Repaired(edits.weights, details, [*consumers.notes, *edits.notes])


def share_left(c: Consumer, taps: Floats, covariance: Floats | None = None) -> Floats:
    """What is left of outputs' variance if the layer gets these taps. Shapes: (outputs,)."""
    before, after = c.variance(c.taps, covariance), c.variance(c.without(taps), covariance)
    share = np.divide(after, before, out=np.ones_like(before), where=before > 0)
    return np.where(c.kept, np.maximum(share, _LEAST_SHARE), 1.0)


class Edits:
    """Changes to constants that shift and scale layers' outputs. Nothing else sees them."""

    def __init__(self, coupling: Coupling) -> None:
        self.model, self.dims = coupling.model, coupling.prepared.shapes.dims
        self._added: dict[str, Floats] = {}
        self._scaled: dict[str, Floats] = {}
        self._blocked: list[str] = []
        self._index = index_of(self.model)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The changed constants."""
        found = {}
        for name in {**self._added, **self._scaled}:
            old = self.model.weights[name]
            new = (old.astype(np.float64) + self._added.get(name, 0.0)) * self._scaled.get(name, 1.0)
            found[name] = np.asarray(new, dtype=old.dtype)
        return found

    @property
    def notes(self) -> list[str]:
        return note_unrepaired("no bias can take up what is lost in", self._blocked)

    def shift(self, layer: Layer, shift: Floats) -> bool:
        """Shift a layer's output. False, and nothing is changed, where no bias takes it. Shapes: shift (outputs,)."""
        if layer.bias is not None and self.owns(layer.bias):
            changes: list[Change] | None = [(layer.bias, shift / layer.beta)]
        else:
            shape = np.ones(len(self.dims[layer.output]), dtype=np.int64)
            shape[layer.y_axis] = -1
            changes = self.push(layer.output, shift.reshape(shape))
        if changes is None:
            self._blocked.append(layer.node)
            return False
        for name, delta in changes:
            self._added[name] = self._added.get(name, 0.0) + delta.reshape(self.model.weights[name].shape)
        return True

    def rescale(self, layer: Layer, share: Floats) -> bool:
        """Let the BatchNormalization that alone reads a layer count on a share of its variance. False without one."""
        reader = self._index.sole_reader(layer.output)
        if reader is None or reader.op_type != "BatchNormalization":
            return False
        name = reader.input[4]
        if not self.owns(name) or reader.input[0] != layer.output:
            return False
        self._scaled[name] = self._scaled.get(name, 1.0) * share
        return True

    def owns(self, name: str) -> bool:
        """Whether a constant is read in one place only."""
        return name in self.model.weights and self._index.sole_reader(name) is not None

    def size(self, name: str) -> tuple[int, ...]:
        return self.model.weights[name].shape

    def push(self, tensor: str, shift: Floats) -> list[Change] | None:
        """Shift a tensor by what can take it up behind it. None where a reader cannot."""
        changes: list[Change] = []
        for node, _, operand in self._index.reads(tensor):
            if node is None or operand == CAPTURE:
                return None
            rule = _PUSHES.get(node.op_type)
            found = rule(self, node, tensor, shift) if rule and list(node.input).count(tensor) == 1 else None
            if found is None:
                return None
            changes.extend(found)
        return changes


Change = tuple[str, Floats]
Push = Callable[[Edits, onnx.NodeProto, str, Floats], "list[Change] | None"]


def _normalized(e: Edits, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    """BatchNormalization subtracts its mean."""
    mean = node.input[3]
    if tensor != node.input[0] or not e.owns(mean) or e.size(mean) != (shift.size,):
        return None
    return [(mean, -shift)]


def _added(e: Edits, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    """A constant takes it up, if it has an entry for each channel; else it goes on with the sum."""
    other = next(name for name in node.input if name != tensor)
    if e.owns(other):
        shape = np.broadcast_shapes(e.size(other), shift.shape)
        if np.prod(shape) == np.prod(e.size(other)):
            return [(other, np.broadcast_to(shift, shape))]
    return e.push(node.output[0], shift)


def _passed(e: Edits, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    return e.push(node.output[0], shift)


def _joined(e: Edits, node: onnx.NodeProto, tensor: str, shift: Floats) -> list[Change] | None:
    axis = attribute(node, "axis") % shift.ndim
    parts = []
    for name in node.input:
        shape = list(shift.shape)
        shape[axis] = e.dims[name][axis]
        parts.append(np.broadcast_to(shift if name == tensor else 0.0, shape))
    return e.push(node.output[0], np.concatenate(parts, axis=axis))


_PUSHES: dict[str, Push] = {
    "BatchNormalization": _normalized,
    "Add": _added,
    "Concat": _joined,
    "Identity": _passed,
    "Dropout": _passed,
    "AveragePool": _passed,
    "GlobalAveragePool": _passed,
}
