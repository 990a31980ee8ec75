"""Convolutions and matrix products with constant weights, seen as rows of weights that are multiplied with windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx

from ....graph.layer import Layer
from ....graph.layer import Window as Sliding
from ....graph.layers import NO_VECTOR
from ....graph.nodes import as_ints, attribute, display_name
from .steps import Layout
from .wires import Wires


@dataclass(frozen=True)
class Window:
    """Where a convolution looks: along height and width, or along its one axis. ``pads`` are the begins, then the ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int

    @property
    def flat(self) -> bool:
        """Whether it has one axis."""
        return len(self.kernel) == 1

    @property
    def image(self) -> Window:
        """The same on an image, of height 1 where there is one axis."""
        if not self.flat:
            return self
        begin, end = self.pads
        return Window((1, *self.kernel), (1, *self.strides), (1, *self.dilations), (0, begin, 0, end), self.groups)

    def padded(self, begins: tuple[int, ...], ends: tuple[int, ...]) -> Window:
        half = len(self.kernel)
        both = (*begins, *ends)
        pads = tuple(p + q for p, q in zip(self.pads, both, strict=True))
        return Window(self.kernel, self.strides, self.dilations, pads[:half] + pads[half:], self.groups)


@dataclass(frozen=True)
class Dot:
    """A node that multiplies ``data`` with constant weights: ``factor * rows . window + bias``.

    Shapes: rows (outputs, K), K in the order (channel, kernel position); bias (outputs,).
    """

    node: onnx.NodeProto
    data: str
    rows: np.ndarray
    bias: np.ndarray
    layout: Layout
    window: Window | None = None
    factor: float = 1.0

    @property
    def name(self) -> str:
        return display_name(self.node)

    @property
    def out(self) -> str:
        return self.node.output[0]

    @property
    def outputs(self) -> int:
        return len(self.rows)

    @property
    def out_layout(self) -> Layout:
        return Layout(self.layout.rank, self.layout.axis, self.outputs)

    def turned(self, rows: np.ndarray, pixels: int = 1) -> np.ndarray:
        """Rows with the channel last: (kernel position or pixel of what was an image, channel)."""
        places = pixels if self.window is None else int(np.prod(self.window.kernel))
        return rows.reshape(len(rows), -1, places).transpose(0, 2, 1).reshape(len(rows), -1)


def dot_of(wires: Wires, layer: Layer) -> Dot | str:
    """A layer as rows of weights, or why it cannot be seen so."""
    node, weight = wires.nodes[layer.place], wires.known[layer.weight]
    rows = np.moveaxis(weight, layer.axis, 0).reshape(weight.shape[layer.axis], -1)
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2] and layer.unfit in ("", NO_VECTOR):
        bias = layer.beta * wires.known[node.input[2]].astype(np.float64)
    if (
        layer.unfit not in ("", NO_VECTOR)
        or bias.size not in (1, len(rows))
        or bias.shape[-1:] not in ((), (bias.size,))
    ):
        return layer.unfit
    dot = Dot(node, layer.x, rows, np.broadcast_to(bias.reshape(-1), len(rows)), Layout(2, 1, layer.columns))
    if layer.window is None:
        rank = len(wires.dims(layer.x) or (0, 0))
        if rank < 2:
            return "its input is a single row"
        return replace(dot, layout=replace(dot.layout, rank=rank, axis=rank - 1), factor=layer.alpha)
    if len(layer.kernel) > 2:
        return f"it has {len(layer.kernel)} spatial axes"
    window = window_of(wires, node, layer.window, layer.groups)
    layout = Layout(weight.ndim, 1, layer.channels * layer.groups)
    return window if isinstance(window, str) else replace(dot, layout=layout, window=window)


def window_of(wires: Wires, node: onnx.NodeProto, found: Sliding, groups: int = 1) -> Window | str:
    """Where a node looks, ``auto_pad`` worked out."""
    dims = wires.dims(node.input[0])
    if found.pads is None and dims is None:
        return f"auto_pad {attribute(node, 'auto_pad')} needs the size of its input, which is not known"
    begins, ends = found.padding(tuple(dims[2:]) if dims is not None else ())
    return Window(found.kernel, found.strides, found.dilations, (*begins, *ends), groups)


def spatial_pads(wires: Wires, node: onnx.NodeProto, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], float] | str:
    """What a Pad node adds on the axes behind the channels, and the value; why it is no such padding otherwise."""
    if attribute(node, "mode", "constant") != "constant":
        return f"Pad {attribute(node, 'mode')!r} feeds it"
    pads = wires.known.get(node.input[1])
    value = wires.known.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
    if pads is None or value is None or (len(node.input) > 3 and node.input[3]):
        return "a Pad with computed operands feeds it"
    every = as_ints(pads)
    begins, ends = every[:rank], every[rank:]
    if len(every) != 2 * rank or any((*begins[:2], *ends[:2])) or min(every) < 0:
        return "a Pad of samples or channels feeds it"
    return tuple(begins[2:]), tuple(ends[2:]), float(value.reshape(-1)[0])
