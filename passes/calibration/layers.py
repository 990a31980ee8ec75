"""Layers: nodes that multiply an activation by a constant weight, seen as one matrix applied to rows.

A convolution's row is the patch under one position of its output, so every layer is ``y = rows @ W.T + b``. Columns of a
convolution's matrix are ordered by kernel position, then by input channel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray

from ...graph.model import Model
from ...graph.nodes import attribute, captured, is_standard

Floats = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a convolution slides. ``pads`` are (begins, ends), None for ``auto_pad``."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, ...], tuple[int, ...]] | None
    upper: bool = True

    @property
    def plain(self) -> bool:
        """Whether a row is just one pixel."""
        still = all(s == 1 for s in self.strides) and not any(any(p) for p in self.pads or ((1,),))
        return still and all(k == 1 for k in self.kernel)

    def padding(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Pads for an input of this size."""
        if self.pads is not None:
            return self.pads
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        total = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(size, self.strides, spans, strict=True)]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        return (small, large) if self.upper else (large, small)

    def places(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Output size for an input of this size."""
        begins, ends = self.padding(size)
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        return tuple(
            (n + b + e - span) // s + 1
            for n, b, e, span, s in zip(size, begins, ends, spans, self.strides, strict=True)
        )


@dataclass(frozen=True)
class Layer:
    """One Conv, Gemm or MatMul with a constant weight (and the constant Add after a MatMul, which is its bias).

    ``output`` is the tensor after the bias. ``groups`` matrices stand side by side in a grouped convolution.
    """

    node: str
    op: str
    x: str
    weight: str
    bias: str | None
    output: str
    groups: int = 1
    window: Window | None = None
    transposed: bool = False
    alpha: float = 1.0
    beta: float = 1.0

    def matrix(self, weight: Floats) -> Floats:
        """The weight as matrices. Shapes: -> (groups, outputs, columns), columns by kernel position, then channel."""
        w = np.asarray(weight, dtype=np.float64)
        if self.window is not None:
            g, o, i = self.groups, w.shape[0], w.shape[1]
            return w.reshape(g, o // g, i, -1).transpose(0, 1, 3, 2).reshape(g, o // g, -1)
        return (self.alpha * (w.T if self.transposed else w))[None]

    def columns(self, weight: Floats) -> int:
        """Columns of each matrix."""
        if self.window is not None:
            return int(np.prod(weight.shape[1:]))
        return int(weight.shape[0 if self.transposed else 1])

    def weight_like(self, matrix: Floats, weight: Floats) -> Floats:
        """The inverse of ``matrix``, with the shape and type of ``weight``."""
        if self.window is not None:
            g, o, i = self.groups, weight.shape[0], weight.shape[1]
            back = matrix.reshape(g, o // g, -1, i).transpose(0, 1, 3, 2).reshape(weight.shape)
        else:
            back = (matrix[0].T if self.transposed else matrix[0]) / self.alpha
        return np.ascontiguousarray(back, dtype=weight.dtype)

    def offset(self, model: Model) -> Floats | None:
        """What the bias adds. Shapes: (groups, outputs per group). None where the layer has none."""
        if self.bias is None:
            return None
        return (self.beta * np.asarray(model.weights[self.bias], dtype=np.float64)).reshape(self.groups, -1)

    def bias_like(self, offset: Floats, bias: Floats) -> Floats:
        return np.ascontiguousarray((offset / self.beta).reshape(bias.shape), dtype=bias.dtype)

    @property
    def channel_axis(self) -> int:
        """The axis of ``x`` that the layer sums over."""
        return 1 if self.window is not None or self.op == "Gemm" else -1

    def column_channels(self, inputs: int) -> Ints:
        """Input channel of each column of each matrix. Shapes: (groups, columns)."""
        channels = np.arange(inputs).reshape(self.groups, -1)
        kernel = int(np.prod(self.window.kernel)) if self.window is not None else 1
        return np.tile(channels, (1, kernel))

    def rows_along(self, x: Floats) -> tuple[int, ...]:
        """Shape of the output for an input ``x``, without its channels: each entry is one row."""
        if self.window is not None:
            return len(x), *self.window.places(x.shape[2:])
        return x.shape[:-1]

    def without_channels(self, y: Floats) -> tuple[int, ...]:
        """Shape of an output, or of any tensor like it, without its channels."""
        axis = self.channel_axis % y.ndim
        return (*y.shape[:axis], *y.shape[axis + 1 :])

    def place_count(self, x: Floats) -> int:
        """Rows that one sample (index of the first axis) gives."""
        if self.window is not None:
            return int(np.prod(self.window.places(x.shape[2:])))
        return int(np.prod(x.shape[1:-1])) if x.ndim > 1 else 1

    def rows(self, x: Floats, places: Ints) -> Floats:
        """What the matrices multiply, at some positions of each sample. Shapes: places (samples, positions) ->
        (groups, samples * positions, columns).
        """
        x = x if x.ndim > 1 else x[None]
        samples, channels = x.shape[0], x.shape[self.channel_axis]
        x = np.asarray(x, dtype=np.float32) if x.dtype != np.float64 else x
        if self.window is None:
            return _at(x.reshape(samples, -1, channels), places)[None]
        pixels, index = x.reshape(samples, channels, -1), places[:, :, None]
        if not self.window.plain:
            begins, ends = self.window.padding(x.shape[2:])
            padded = np.pad(x, ((0, 0), (0, 0), *zip(begins, ends, strict=True))) if any((*begins, *ends)) else x
            pixels = padded.reshape(samples, channels, -1)
            index = self._index(x.shape[2:], padded.shape[2:])[places]
        patches = _at(np.ascontiguousarray(pixels.transpose(0, 2, 1)), index.reshape(samples, -1))
        if self.groups == 1:
            return patches.reshape(1, places.size, -1)
        split = patches.reshape(places.size, index.shape[2], self.groups, -1)
        return np.ascontiguousarray(split.transpose(2, 0, 1, 3)).reshape(self.groups, places.size, -1)

    def values(self, y: Floats, places: Ints) -> Floats:
        """Outputs (or any tensor of their shape) at the same positions. Shapes: (groups, samples * positions, outputs)."""
        y = y if y.ndim > 1 else y[None]
        samples, channels = y.shape[0], y.shape[self.channel_axis]
        y = np.asarray(y, dtype=np.float32) if y.dtype != np.float64 else y
        if self.window is None:
            return _at(y.reshape(samples, -1, channels), places)[None]
        flat = y.reshape(samples, self.groups, channels // self.groups, -1)
        found = np.empty((self.groups, *places.shape, channels // self.groups), dtype=y.dtype)
        for k, mine in enumerate(places):
            found[:, k] = np.take(flat[k], mine, axis=2).transpose(0, 2, 1)
        return found.reshape(self.groups, places.size, -1)

    def _index(self, size: tuple[int, ...], padded: tuple[int, ...]) -> Ints:
        """Flat positions in the padded input under each place. Shapes: (places, kernel positions)."""
        window = self.window
        assert window is not None
        out = window.places(size)
        corner = np.stack(np.unravel_index(np.arange(int(np.prod(out))), out), axis=1) * np.array(window.strides)
        taps = np.stack(np.unravel_index(np.arange(int(np.prod(window.kernel))), window.kernel), axis=1)
        at = corner[:, None, :] + taps[None] * np.array(window.dilations)
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(at, -1, 0)), padded), dtype=np.int64)


def _at(rows: Floats, index: Ints) -> Floats:
    """Rows of each sample. Shapes: rows (samples, n, c), index (samples, m) -> (samples * m, c)."""
    samples, count, width = rows.shape
    flat = index + (np.arange(samples) * count)[:, None]
    return np.take(rows.reshape(-1, width), flat.reshape(-1), axis=0)


def spread_places(layer: Layer, x: Floats, wanted: int, keys: Ints) -> Ints:
    """Which of a layer's positions are looked at in each sample. Shapes: keys (samples,) -> (samples, positions).

    All of them, if so many are wanted; else a part of one random order that starts where the sample's key says: a
    sample has its positions wherever it stands in the data.
    """
    count = layer.place_count(x)
    samples = len(x) if x.ndim > 1 else 1
    if len(keys) != samples:  # the first axis does not count samples here
        wanted, keys = -(-wanted * len(keys) // max(1, samples)), np.arange(samples)
    if wanted >= count:
        return np.broadcast_to(np.arange(count), (len(keys), count))
    order = np.random.default_rng(crc32(layer.node.encode())).permutation(count)
    return np.asarray(order[(keys[:, None] + np.arange(wanted)) % count])


@dataclass(frozen=True)
class Layers:
    """All layers of a model, by their output, in graph order."""

    model: Model

    @cached_property
    def by_output(self) -> dict[str, Layer]:
        readers = Counter(i for n in self.model.graph.node for i in (*n.input, *captured(n)))
        readers.update(o.name for o in self.model.graph.output)
        adds = {n.input[k]: n for n in self.model.graph.node if n.op_type == "Add" for k in (0, 1)}
        found = {}
        for node in self.model.graph.node:
            layer = _layer(node, self.model, readers, adds) if is_standard(node) else None
            if layer is not None:
                found[layer.output] = layer
        return found

    def __iter__(self) -> Any:
        return iter(self.by_output.values())

    def __len__(self) -> int:
        return len(self.by_output)


def _layer(node: onnx.NodeProto, model: Model, readers: Counter[str], adds: dict[str, onnx.NodeProto]) -> Layer | None:
    if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[0] in model.weights:
        return None
    weight = model.weights.get(node.input[1])
    if weight is None or weight.dtype.kind != "f":
        return None
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if bias is not None and bias not in model.weights:
        return None  # computed
    x, name, output = node.input[0], node.input[1], node.output[0]
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        return Layer(output, "Conv", x, name, bias, output, groups, _window(node, weight))
    if node.op_type == "Gemm":
        alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
        outputs = weight.shape[0 if attribute(node, "transB", 0) else 1]
        fits = bias is None or model.weights[bias].shape in ((outputs,), (1, outputs))
        if attribute(node, "transA", 0) or alpha == 0 or beta == 0 or not fits:
            return None
        return Layer(
            output, "Gemm", x, name, bias, output, alpha=alpha, beta=beta, transposed=not attribute(node, "transB", 0)
        )
    if weight.ndim != 2:
        return None
    add = adds.get(output) if readers[output] == 1 else None
    if add is not None:
        other = add.input[1] if add.input[0] == output else add.input[0]
        if other in model.weights and model.weights[other].shape in ((weight.shape[1],), (1, weight.shape[1])):
            return Layer(output, "MatMul", x, name, other, add.output[0], transposed=True)
    return Layer(output, "MatMul", x, name, None, output, transposed=True)


def _window(node: onnx.NodeProto, weight: Floats) -> Window:
    rank = weight.ndim - 2
    ones = (1,) * rank
    pads: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    auto = attribute(node, "auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", "VALID", ""):
        flat = tuple(attribute(node, "pads", None) or (0,) * (2 * rank)) if auto != "VALID" else (0,) * (2 * rank)
        pads = (flat[:rank], flat[rank:])
    return Window(
        tuple(weight.shape[2:]),
        tuple(attribute(node, "strides", None) or ones),
        tuple(attribute(node, "dilations", None) or ones),
        pads,
        auto != "SAME_LOWER",
    )
