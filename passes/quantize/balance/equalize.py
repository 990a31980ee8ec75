"""Cross-layer equalization: scale channels between two layers so that both use their range of integers equally well.

Where y = W2 f(W1 x + b1) with f(t x) = t f(x) for t > 0, channel i may be divided by t_i on one side and multiplied on
the other. With r1 the largest weight of a row of W1, and r2 that of a column of W2, t = sqrt(r1 / r2) makes both equal
to sqrt(r1 r2). Several layers in a row are done in turns until nothing changes any more.

A BatchNormalization behind the first layer counts as part of it and takes the scale into its own scale and shift: what
it remembers of its outputs is scaled along.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv:1906.04721, sections 4.1 and 4.2.
Differs: channels whose weights are next to nothing on either side stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ....graph.index import index_of
from ....graph.layer import Layer
from ....graph.model import Model
from ....graph.nodes import attribute, display_name, replace_nodes, saturation
from ....graph.traits import Trait, has
from ...calibration.normal.moments import Floats, Normal, moments
from ...rewrite.edit import Outcome
from .paths import Graph, Pair

SWEEPS = 40
_SETTLED = 1e-3
"""Change of a scale below which nothing changes any more: a thousandth."""
_LEAST = 1e-4
"""Channels whose range is a smaller share of their layer's largest are left alone: their biases would be blown up."""
_REACH = 6.0
"""Deviations from the mean within which all values are taken to lie."""


def equalize(model: Model) -> Outcome:
    """Equalize all pairs of layers. Outputs stay equal to rounding.

    A Clip from 0 to a limit that BatchNormalization says is never met becomes Relu first.
    """
    work, notes = _rectified(model)
    graph = Graph(work)
    pairs, skipped = graph.pairs()
    scales = _Scales(graph, pairs)
    changed = scales.settle()
    if not changed:
        return Outcome(model, {}, skipped)
    scaled = work.copy()
    for name, value in scales.constants().items():
        scaled.put(name, value)
    return Outcome(scaled, {pairs[k].first.name: told for k, told in changed.items()}, skipped, notes)


class _Scales:
    """The scales of all pairs, by whose logarithms everything is told: how large rows and columns are with them."""

    def __init__(self, graph: Graph, pairs: Sequence[Pair]) -> None:
        self.weights, self.pairs = graph.model.weights, pairs
        self.logs = [np.zeros(int(p.channels.max()) + 1) for p in pairs]
        self._behind = {p.first.node: k for k, p in enumerate(pairs)}
        self._before = {p.second.node: k for k, p in enumerate(pairs)}
        self._layers = {layer.node: layer for pair in pairs for layer in (pair.first, pair.second)}
        self._matrices = {node: layer.matrix(self.weights[layer.weight]) for node, layer in self._layers.items()}
        self._gains = {node: self._gain(layer, graph.norm(layer)) for node, layer in self._layers.items()}

    def settle(self) -> dict[int, str]:
        """Find all scales. Pairs that changed, and how far apart their channels were and are."""
        before = [self._spread(p) for p in self.pairs]
        for _ in range(SWEEPS):
            if max((self._balance(k) for k in range(len(self.pairs))), default=0.0) < _SETTLED:
                break
        told = {}
        for k, pair in enumerate(self.pairs):
            if np.abs(self.logs[k]).max(initial=0.0) > _SETTLED:
                told[k] = (
                    f"scaled against {pair.second.name}, ranges {before[k]:.3g} apart became {self._spread(pair):.3g}"
                )
        return told

    def constants(self) -> dict[str, np.ndarray]:
        """All constants that change. Shapes and types stay."""
        weights = self.weights
        found: dict[str, np.ndarray] = {}
        for layer in self._layers.values():
            if layer.node in self._before or self._divided(layer):
                matrix = self._matrices[layer.node] * np.exp(self._columns(layer) - self._rows(layer))
                found[layer.weight] = layer.weight_like(matrix, weights[layer.weight])
            if self._divided(layer) and layer.bias is not None:
                value = weights[layer.bias].astype(np.float64)
                scale = np.exp(-self.logs[self._behind[layer.node]])
                found[layer.bias] = (value * scale.reshape(value.shape)).astype(weights[layer.bias].dtype)
        for pair, logs in zip(self.pairs, self.logs, strict=True):
            for name in [] if pair.norm is None else pair.norm.input[1:3]:
                found[name] = (weights[name].astype(np.float64) * np.exp(-logs)).astype(weights[name].dtype)
        return found

    def _divided(self, layer: Layer) -> bool:
        """Whether the layer itself is divided, not a BatchNormalization behind it."""
        return layer.node in self._behind and self.pairs[self._behind[layer.node]].norm is None

    def _balance(self, k: int) -> float:
        """Make rows and columns of one pair alike; the largest change."""
        rows, columns = self._ranges(self.pairs[k])
        with np.errstate(divide="ignore", invalid="ignore"):
            change = (np.log(rows) - np.log(columns)) / 2
        tiny = (rows <= _LEAST * rows.max(initial=0.0)) | (columns <= _LEAST * columns.max(initial=0.0))
        change = np.where(tiny | ~np.isfinite(change), 0.0, change)
        self.logs[k] += change
        return float(np.abs(change).max(initial=0.0))

    def _ranges(self, pair: Pair) -> tuple[Floats, Floats]:
        """The largest weight of each row of the first layer and of each column of the second, with all scales."""
        rows = self._folded(pair.first).max(axis=2).reshape(-1)
        columns = np.zeros(len(rows))
        np.maximum.at(columns, self._channels(pair), self._folded(pair.second).max(axis=1))
        return rows, columns

    def _folded(self, layer: Layer) -> Floats:
        """Sizes of a layer's weights as they are with all scales once BatchNormalization behind it is folded."""
        k = self._behind.get(layer.node)
        rows = self._gains[layer.node] * (1.0 if k is None else np.exp(-self.logs[k]))
        return np.abs(self._matrices[layer.node]) * np.exp(self._columns(layer)) * rows.reshape(layer.groups, -1, 1)

    def _gain(self, layer: Layer, norm: onnx.NodeProto | None) -> Floats:
        """What the BatchNormalization behind a layer multiplies each row with. Shapes: (channels,)."""
        if norm is None:
            return np.ones(layer.groups * layer.outputs)
        scale, variance = (self.weights[norm.input[i]].astype(np.float64) for i in (1, 4))
        return np.asarray(np.abs(scale) / np.sqrt(variance + attribute(norm, "epsilon", 1e-5)))

    def _spread(self, pair: Pair) -> float:
        """How much larger the widest channel is than the narrowest that counts, on the worse side."""
        return max(_ratio(side) for side in self._ranges(pair))

    def _channels(self, pair: Pair) -> np.ndarray:
        """The first layer's channel that each of the second's columns reads. Shapes: (groups, columns)."""
        return pair.channels[pair.second.column_channels]

    def _columns(self, layer: Layer) -> Floats:
        """Logarithms that a layer's columns are multiplied by. Shapes: broadcast against its matrices."""
        k = self._before.get(layer.node)
        return np.zeros((1, 1, 1)) if k is None else self.logs[k][self._channels(self.pairs[k])][:, None, :]

    def _rows(self, layer: Layer) -> Floats:
        """Logarithms that a layer's rows are divided by."""
        if not self._divided(layer):
            return np.zeros((1, 1, 1))
        return self.logs[self._behind[layer.node]].reshape(layer.groups, -1, 1)


def _ratio(ranges: Floats) -> float:
    counted = ranges[ranges > _LEAST * ranges.max(initial=0.0)]
    return float(counted.max() / counted.min()) if counted.size else 1.0


def _rectified(model: Model) -> tuple[Model, list[str]]:
    """The model with Clip from 0 to a limit that is not met as Relu."""
    clips = [n for n in model.graph.node if has(n, Trait.RECTIFIES) and n.op_type != "Relu"]
    known = moments(model) if clips else {}
    replaced = dict[str, onnx.NodeProto]()
    for node in clips:
        x, limits = known.get(node.input[0]), saturation(node, model.weights)
        idle = x is not None and limits is not None and limits[0] == 0 and _highest(x) <= limits[1] < np.inf
        if idle:
            replaced[node.output[0]] = onnx.helper.make_node("Relu", node.input[:1], node.output, node.name)
    if not replaced:
        return model, []
    changed = model.copy()
    replace_nodes(changed.graph, [replaced.get(n.output[0], n) if n.output else n for n in changed.graph.node])
    for name in {i for n in clips for i in n.input[1:]} - index_of(changed).uses.keys():
        changed.weights.pop(name, None)
    why = "its limit is never met, as BatchNormalization says"
    return changed, [f"Clip {display_name(node)!r} became Relu: {why}" for node in replaced.values()]


def _highest(x: Normal) -> float:
    return float((x.mean + _REACH * np.sqrt(x.variance)).max(initial=-np.inf))
