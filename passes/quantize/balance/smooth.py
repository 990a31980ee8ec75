"""SmoothQuant: move what makes activations hard to quantize into the weights that read them.

A few channels of a transformer's activations are much larger than the others, and one scale for all of them leaves few
integers for the rest. Channel j is divided by

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

and the columns of all layers that read it are multiplied by it. The division goes into what makes the tensor: scale and
shift of a normalization, written as one operator or several, or rows and bias of a layer, also through a rectifier. The
float model computes the same as before.

Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", ICML
2023, arXiv:2211.10438.
Differs: channels that are always zero, in the data or in the weights, stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from ....graph.layer import Layer
from ....graph.model import Model
from ....graph.nodes import attribute
from ....graph.traits import Trait, operator, operators
from ....measure.data.source import DataSource
from ...base import MEMORY
from ...calibration.normal.moments import Floats
from ...calibration.runner import collect
from ...calibration.statistics import Range
from ...rewrite.edit import Outcome
from .paths import KEEP_FACTORS, Graph

_LEAST = 1e-5
"""No channel is divided by less, as in the authors' code."""


def smooth(model: Model, data: DataSource, *, alpha: float = 0.5, budget_bytes: int = MEMORY // 2) -> Outcome:
    """Smooth the inputs of all layers. Outputs stay equal to rounding."""
    job = _Job(Graph(model), alpha)
    sites, skipped = _sites(job)
    if not sites:
        return Outcome(model, {}, skipped)
    axes = {tensor: job.axis(readers[0]) for tensor, readers in sites.items()}
    ranges = {tensor: Range(axis) for tensor, axis in axes.items()}
    collect(model, data, {tensor: [r] for tensor, r in ranges.items()}, budget_bytes=budget_bytes)
    done: dict[str, str] = {}
    for tensor, readers in sites.items():
        peaks = np.maximum(np.abs(ranges[tensor].minimum), np.abs(ranges[tensor].maximum))
        scale = job.scale(readers, peaks)
        if np.allclose(scale, 1):
            skipped.update((layer.name, "its channels are even already") for layer in readers)
            continue
        job.divide(tensor, axes[tensor], scale)
        for layer in readers:
            job.multiply(layer, scale)
            done[layer.name] = f"largest channel {_ratio(peaks):.3g} times the median, now {_ratio(peaks / scale):.3g}"
    changed = model.copy()
    for name, value in job.changed.items():
        changed.put(name, value.astype(model.weights[name].dtype))
    return Outcome(changed if done else model, done, skipped)


def _sites(job: _Job) -> tuple[dict[str, list[Layer]], dict[str, str]]:
    """Tensors to smooth in graph order with all layers that read them, and why layers cannot have theirs smoothed."""
    sites: dict[str, list[Layer]] = defaultdict(list)
    for layer in job.graph.layers:
        sites[layer.x].append(layer)
    told = {tensor: _obstacle(job, tensor, readers) for tensor, readers in sites.items()}
    skipped = {layer.name: why for tensor, why in told.items() if why is not None for layer in sites[tensor]}
    return {tensor: readers for tensor, readers in sites.items() if told[tensor] is None}, skipped


def _obstacle(job: _Job, tensor: str, readers: Sequence[Layer]) -> str | None:
    graph = job.graph
    if tensor not in graph.dims:
        return f"the shape of its input {tensor!r} is unknown"
    if len({job.axis(layer) for layer in readers}) > 1:
        return f"layers that read {tensor!r} do not agree which axis counts channels"
    if any(graph.index.uses[layer.weight] > 1 for layer in readers):
        return "other nodes use its weights too"
    if graph.index.uses[tensor] > len(readers):
        return f"more than layers read its input {tensor!r}"
    axis = job.axis(readers[0])
    told = _Job(graph, job.alpha).divide(tensor, axis, np.ones(graph.dims[tensor][axis]))  # found by trying
    return None if told is None else f"its input cannot be scaled: {told}"


class _Job:
    """Constants while they change."""

    def __init__(self, graph: Graph, alpha: float) -> None:
        self.graph, self.alpha = graph, alpha
        self.changed: dict[str, Floats] = {}

    def value(self, name: str) -> Floats:
        found = self.changed.get(name)
        return self.graph.model.weights[name].astype(np.float64) if found is None else found

    def axis(self, reader: Layer) -> int:
        """What counts the channels that a layer reads, from the front."""
        return reader.x_axis % len(self.graph.dims[reader.x])

    def scale(self, readers: Sequence[Layer], peaks: Floats) -> Floats:
        """What each channel is divided by. Shapes: (channels,)."""
        weights = np.zeros_like(peaks)
        for layer in readers:
            columns = layer.column_channels
            np.maximum.at(weights, columns, np.abs(layer.matrix(self.value(layer.weight))).max(axis=1))
        alive = (peaks > 0) & (weights > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.maximum(peaks**self.alpha / weights ** (1 - self.alpha), _LEAST)
        return np.where(alive, scale, 1.0)

    def multiply(self, layer: Layer, scale: Floats) -> None:
        """Multiply a layer's columns."""
        columns = scale[layer.column_channels]
        matrix = layer.matrix(self.value(layer.weight)) * columns[:, None, :]
        self.changed[layer.weight] = layer.weight_like(matrix, self.value(layer.weight))

    def divide(self, tensor: str, axis: int, scale: Floats) -> str | None:
        """Divide a tensor in what makes it. Why not, if it cannot be; then something may be divided already."""
        graph = self.graph
        layer = graph.layers.by_output.get(tensor)
        if layer is not None:
            return self._divide_layer(layer, axis, scale)
        node = graph.index.makers.get(tensor)
        if node is None:
            return f"{tensor!r} is an input of the model"
        rule = _DIVISIONS.get(node.op_type)
        if rule is None or node.output[0] != tensor:
            return f"{node.op_type} makes it"
        return rule(self, node, axis, scale)

    def _divide_layer(self, layer: Layer, axis: int, scale: Floats) -> str | None:
        if self.graph.layers.tied(layer):
            return "other nodes use the constants that make it"
        if axis != layer.y_axis % len(self.graph.dims[layer.output]):
            return "it is made along another axis"
        weight = self.value(layer.weight)
        rows = scale.reshape(layer.groups, -1, 1)
        self.changed[layer.weight] = layer.weight_like(layer.matrix(weight) / rows, weight)
        if layer.bias is not None:
            bias = self.value(layer.bias)
            self.changed[layer.bias] = bias / scale.reshape(bias.shape)
        return None

    def divide_constant(self, name: str, axis: int, rank: int, scale: Floats) -> str | None:
        """Divide a constant that is broadcast against a tensor of some rank."""
        if self.graph.index.uses[name] > 1:
            return f"other nodes use the constant {name!r} too"
        value = self.value(name)
        behind = rank - axis  # axes from the channels on, which is how broadcasting counts
        if value.ndim < behind or value.shape[value.ndim - behind] != len(scale):
            return f"the constant {name!r} has no value for each channel"
        self.changed[name] = value / scale.reshape(-1, *[1] * (behind - 1))
        return None


Division = Callable[[_Job, onnx.NodeProto, int, Floats], "str | None"]


def _normalization(job: _Job, node: onnx.NodeProto, axis: int, scale: Floats) -> str | None:
    """Scale and shift, of the last axis."""
    rank = len(job.graph.dims[node.output[0]])
    if axis != rank - 1 or attribute(node, "axis", -1) % rank != axis or any(node.output[1:]):
        return f"{node.op_type} normalizes over other axes, or more than its output is read"
    return _both(job, node, scale)


def _by_channel(job: _Job, node: onnx.NodeProto, axis: int, scale: Floats) -> str | None:
    return _both(job, node, scale) if axis == 1 else f"{node.op_type} counts channels by another axis"


def _both(job: _Job, node: onnx.NodeProto, scale: Floats) -> str | None:
    names = [name for name in node.input[1:3] if name]
    for name in names:
        value = job.graph.model.weights.get(name)
        if value is None or value.shape != scale.shape or job.graph.index.uses[name] > 1:
            return f"{node.op_type} has no scale and shift of its own for each channel"
    for name in names:
        job.changed[name] = job.value(name) / scale
    return None


def _product(job: _Job, node: onnx.NodeProto, axis: int, scale: Floats) -> str | None:
    """One factor, if it is constant; of a product of two tensors, none."""
    constant = [name for name in node.input if name in job.graph.model.weights]
    if len(constant) != 1:
        return "a product of two tensors makes it"
    return job.divide_constant(constant[0], axis, len(job.graph.dims[node.output[0]]), scale)


def _sum(job: _Job, node: onnx.NodeProto, axis: int, scale: Floats) -> str | None:
    """Both summands, of which one is constant."""
    constant = [name for name in node.input if name in job.graph.model.weights]
    other = [name for name in node.input if name not in job.graph.model.weights]
    if len(constant) != 1 or len(other) != 1:
        return "a sum of two tensors makes it"
    rank = len(job.graph.dims[node.output[0]])
    if len(job.graph.dims.get(other[0], ())) != rank:
        return "a sum that broadcasts makes it"
    told = job.divide_constant(constant[0], axis, rank, scale)
    return told if told is not None else _before(job, other[0], axis, scale)


def _rectifier(job: _Job, node: onnx.NodeProto, axis: int, scale: Floats) -> str | None:
    """f(x / s) = f(x) / s, as s > 0."""
    return _before(job, node.input[0], axis, scale)


def _before(job: _Job, tensor: str, axis: int, scale: Floats) -> str | None:
    """Divide a tensor that only this node reads."""
    told = job.graph.sole_reader(tensor)
    return told if isinstance(told, str) else job.divide(tensor, axis, scale)


_DIVISIONS: dict[str, Division] = {
    op: _normalization if operator(op).channels == -1 else _by_channel
    for op in operators(Trait.NORMALIZES) | operators(Trait.PER_CHANNEL)
}
_DIVISIONS |= {"Mul": _product, "Add": _sum, **dict.fromkeys(KEEP_FACTORS, _rectifier)}


def _ratio(peaks: Floats) -> float:
    middle = float(np.median(peaks))
    return float(peaks.max(initial=0.0)) / middle if middle else np.inf
