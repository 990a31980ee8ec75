"""Pairs of layers between which channels may be scaled: what one divides by, the other multiplies with.

Between the two stands nothing, or a single path of operators with f(t x) = t f(x) for t > 0, which may move channels to
another axis or repeat each of them, as Flatten does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.evaluate import operand
from ....graph.index import index_of
from ....graph.layer import Ints, Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import as_ints, attribute, display_name, is_standard, saturation
from ....graph.registry import registers
from ....graph.traits import Trait, operators


@dataclass(frozen=True)
class Pair:
    """Two layers and the path between them. ``norm`` is the BatchNormalization right behind the first, if there is one.

    ``channels`` has the first layer's channel for each of the second layer's input channels.
    """

    first: Layer
    second: Layer
    norm: onnx.NodeProto | None
    path: tuple[onnx.NodeProto, ...]
    channels: Ints


@dataclass(frozen=True)
class Place:
    """Where the channels are: on which axis, and which of them each index belongs to."""

    axis: int
    channels: Ints


@dataclass(frozen=True)
class Step:
    """One node on a path."""

    node: onnx.NodeProto
    model: Model
    dims: Mapping[str, tuple[int, ...]]
    place: Place

    def constant(self, i: int, name: str) -> np.ndarray | None:
        """An operand that older operator sets hold as an attribute."""
        value = operand(self.node, [self.model.weights.get(n) for n in self.node.input], i, name)
        return None if value is None else np.asarray(value)

    @property
    def before(self) -> tuple[int, ...]:
        return self.dims[self.node.input[0]]

    @property
    def after(self) -> tuple[int, ...]:
        return self.dims[self.node.output[0]]


Passage = Callable[[Step], "Place | str"]
KEEP_FACTORS = operators(Trait.ELEMENTWISE | Trait.HOMOGENEOUS) - operators(Trait.BROADCASTS) | operators(Trait.IDLE)
"""Operators that hand on factors number by number."""
PASSAGES: dict[str, Passage] = {}
"""By operator: where the channels are behind it, or why it is no passage."""


passes_on = registers(PASSAGES)


class Graph:
    """Layers of a model, and what lies between them. A graph output and a subgraph count as readers."""

    def __init__(self, model: Model) -> None:
        self.model, self.layers, self.index = model, Layers(model), index_of(model)
        self.dims = self.index.shapes.dims
        self._inputs = {layer.x: layer for layer in self.layers}

    def sole_reader(self, tensor: str) -> onnx.NodeProto | str:
        reads = self.index.reads(tensor)
        if len(reads) != 1:
            return f"{len(reads)} nodes read its channels" if reads else "nobody reads it"
        return reads[0].node or "its output is one of the model's"

    def pairs(self) -> tuple[list[Pair], dict[str, str]]:
        """All pairs of layers, and why other layers make none."""
        told = {layer: self.pair(layer) for layer in self.layers}
        skipped = {layer.name: pair for layer, pair in told.items() if isinstance(pair, str)}
        return [pair for pair in told.values() if isinstance(pair, Pair)], skipped

    def norm(self, layer: Layer) -> onnx.NodeProto | None:
        """The BatchNormalization that alone reads a layer's output."""
        node = self.sole_reader(layer.output)
        if isinstance(node, str) or node.op_type != "BatchNormalization" or node.input[0] != layer.output:
            return None
        return node if _is_constant(node, self.model) else None

    def pair(self, first: Layer) -> Pair | str:
        """What is behind a layer, or why that is no pair."""
        tensor, norm = first.output, self.norm(first)
        path: list[onnx.NodeProto] = []
        outputs = self.dims.get(tensor)
        if outputs is None:
            return "its output's shape is unknown"
        axis = first.y_axis % len(outputs)
        place = Place(axis, np.arange(outputs[axis]))
        while True:
            node = self.sole_reader(tensor)
            if isinstance(node, str):
                return node
            second = self._inputs.get(tensor)
            if second is not None and node is self.index.makers.get(second.node):
                return self._ended(first, second, norm, path, place)
            if node is not norm:
                moved = self._through(node, tensor, place)
                if isinstance(moved, str):
                    return moved
                place = moved
                path.append(node)
            tensor = node.output[0]

    def _through(self, node: onnx.NodeProto, tensor: str, place: Place) -> Place | str:
        rule = PASSAGES.get(node.op_type) if is_standard(node) else None
        told = f"{node.op_type} {display_name(node)!r} is behind it"
        if rule is None or node.input[0] != tensor or any(node.output[1:]):
            return told
        if tensor not in self.dims or node.output[0] not in self.dims:
            return f"{told}, whose shape is unknown"
        moved = rule(Step(node, self.model, self.dims, place))
        return moved if isinstance(moved, Place) else f"{told}: {moved}"

    def _ended(
        self, first: Layer, second: Layer, norm: onnx.NodeProto | None, path: list[onnx.NodeProto], place: Place
    ) -> Pair | str:
        if place.axis != second.x_axis % len(self.dims[second.x]):
            return f"{second.op} {second.name!r} sums over another axis"
        scaled = [first.weight, first.bias] if norm is None else norm.input[1:3]
        shared = [name for name in (*scaled, second.weight) if name and self.index.uses[name] > 1]
        if shared:
            return f"other nodes use the constant {shared[0]!r} too"
        return Pair(first, second, norm, tuple(path), place.channels)


def _is_constant(node: onnx.NodeProto, model: Model) -> bool:
    return all(name in model.weights for name in node.input[1:]) and not attribute(node, "training_mode", 0)


@passes_on(*KEEP_FACTORS)
def _unmoved(s: Step) -> Place | str:
    return s.place


@passes_on("PRelu")
def _prelu(s: Step) -> Place | str:
    return s.place if s.node.input[1] in s.model.weights else "its slope is computed"


@passes_on("Clip")
def _clip(s: Step) -> Place | str:
    """A rectifier written as Clip."""
    limits = saturation(s.node, s.model.weights)
    if limits is not None and limits[0] == 0 and limits[1] > 1e30:
        return s.place
    return "it has an upper limit, which scaled channels would need one of their own for"


@passes_on(*operators(Trait.POOLS | Trait.HOMOGENEOUS))
def _pool(s: Step) -> Place | str:
    return s.place if s.place.axis == 1 else "it pools over channels"


@passes_on(*operators(Trait.REDUCES | Trait.HOMOGENEOUS))
def _reduce(s: Step) -> Place | str:
    axes, rank = s.constant(1, "axes"), len(s.before)
    over = {a % rank for a in as_ints(axes)} if axes is not None and axes.size else set(range(rank))
    if (len(s.node.input) > 1 and s.node.input[1] and axes is None) or s.place.axis in over:
        return "it reduces channels"
    gone = 0 if attribute(s.node, "keepdims", 1) else sum(a < s.place.axis for a in over)
    return Place(s.place.axis - gone, s.place.channels)


@passes_on("Transpose")
def _transpose(s: Step) -> Place | str:
    order = attribute(s.node, "perm") or list(reversed(range(len(s.before))))
    return Place(order.index(s.place.axis), s.place.channels)


@passes_on("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def _reshape(s: Step) -> Place | str:
    """Channels stay apart where they begin an axis; what stands behind them may join them there."""
    axis, before, after = s.place.axis, s.before, s.after
    length, outside = before[axis], int(np.prod(before[:axis]))
    for k in reversed(range(len(after))):
        if int(np.prod(after[:k])) != outside or after[k] % length:
            continue
        repeat = after[k] // length
        if int(np.prod(after[k:])) == int(np.prod(before[axis:])):
            return Place(k, np.repeat(s.place.channels, repeat))
    return "it mixes channels with what stands before them"


@passes_on("Pad")
def _pad(s: Step) -> Place | str:
    amounts, fill = s.constant(1, "pads"), s.constant(2, "value")
    if amounts is None or (len(s.node.input) > 3 and s.node.input[3]):
        return "its amounts are computed"
    rank = len(s.before)
    zeros = attribute(s.node, "mode", "constant") != "constant" or fill is None or float(fill.reshape(())) == 0
    if not zeros or as_ints(amounts)[s.place.axis] or as_ints(amounts)[s.place.axis + rank]:
        return "it adds channels or something other than nought"
    return s.place
