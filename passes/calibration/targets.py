"""What a layer should bring about: not its own output but the sum that it goes into, as far as a rectifier lets through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...graph.coupling.prepare import prepare
from ...graph.index import index_of
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.nodes import is_standard, reads, saturation
from ...graph.shapes import Shapes

Bounds = tuple[float, float]


@dataclass(frozen=True)
class ReconstructionTarget:
    """``tensor`` of the original is what the layer's output plus ``others`` (of the compressed model) should become.

    ``activation_bounds`` are the limits between which it gets through what follows, None if all of it does.
    """

    tensor: str
    others: tuple[str, ...] = ()
    activation_bounds: Bounds | None = None


class ReconstructionTargets:
    """Targets of all layers of a model, for compression in graph order.

    ``shapes`` are those of more than one sample: a mean over samples must not look like a tensor of samples.
    """

    def __init__(self, model: Model, shapes: Shapes, layers: Layers) -> None:
        """``shapes`` are those of more than one sample: with one, a sum over samples looks like a tensor of samples."""
        self._model, self._shapes = model, shapes
        self._index = index_of(model)
        self._latest: dict[str, int] = {}
        ours = {layer.node for layer in layers}
        for i, node in enumerate(self._index.nodes):
            behind = max((self._latest.get(x, -1) for x in reads(node)), default=-1)
            is_layer = bool(node.output) and node.output[0] in ours
            self._latest.update(dict.fromkeys(node.output, i if is_layer else behind))

    def of(self, layer: Layer) -> ReconstructionTarget:
        """Follow sums whose other operand is complete before the layer runs: they carry what went wrong there."""
        tensor, others = layer.output, []
        place = self._index.place[layer.node]
        while (node := self._index.sole_reader(tensor)) is not None:
            if node.op_type != "Add" or not is_standard(node) or node.input[0] == node.input[1]:
                break
            other = node.input[1] if node.input[0] == tensor else node.input[0]
            if other in self._model.weights or self._latest.get(other, -1) >= place or not self._alike(tensor, other):
                break
            others.append(other)
            tensor = node.output[0]
        return ReconstructionTarget(tensor, tuple(others), self.bounds(tensor))

    def _alike(self, one: str, two: str) -> bool:
        dims = self._shapes.dims
        return one in dims and dims[one] == dims.get(two)

    def bounds(self, tensor: str) -> Bounds | None:
        """Between which all that reads a tensor lets it through."""
        limits = [
            None if r.node is None else saturation(r.node, self._model.weights) for r in self._index.reads(tensor)
        ]
        if not limits or any(c is None for c in limits):
            return None
        low, high = min(c[0] for c in limits if c), max(c[1] for c in limits if c)
        return (low, high) if np.isfinite(low) or np.isfinite(high) else None


def targets_of(model: Model, layers: Layers) -> ReconstructionTargets:
    """Targets of a model as it stands, whatever its symbolic dimensions."""
    return ReconstructionTargets(model, prepare(model).shapes, layers)
