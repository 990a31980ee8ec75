"""Convolutions and matrix products with constant weights, seen as rows of weights that are multiplied with windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.layer import Window as Sliding
from ....graph.nodes import as_ints, attribute, display_name, is_standard
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


Reader = Callable[[Wires, onnx.NodeProto], "Dot | str"]
_READERS: dict[str, Reader] = {}


def reads(op: str) -> Callable[[Reader], Reader]:
    def add(function: Reader) -> Reader:
        _READERS[op] = function
        return function

    return add


def dot_of(wires: Wires, node: onnx.NodeProto) -> Dot | str | None:
    """A node as rows of weights, or why it cannot be seen so; None for other operators and computed weights."""
    if not is_standard(node) or node.op_type not in _READERS or not any(i in wires.known for i in node.input[:2]):
        return None
    return _READERS[node.op_type](wires, node)


@reads("Conv")
def _conv(wires: Wires, node: onnx.NodeProto) -> Dot | str:
    weight = wires.known.get(node.input[1])
    if weight is None:
        return "its weights are computed"
    spatial = weight.ndim - 2
    if spatial not in (1, 2):
        return f"it has {spatial} spatial axes"
    bias = _vector(wires, node, 2, weight.shape[0])
    if bias is None:
        return "its bias is computed"
    groups = attribute(node, "group", 1)
    window = window_of(wires, node, weight.shape[2:], groups)
    if isinstance(window, str):
        return window
    layout = Layout(weight.ndim, 1, weight.shape[1] * groups)
    return Dot(node, node.input[0], weight.reshape(len(weight), -1), bias, layout, window)


def window_of(wires: Wires, node: onnx.NodeProto, kernel: tuple[int, ...], groups: int = 1) -> Window | str:
    """Where a node looks, ``auto_pad`` worked out."""
    found, dims = Sliding.of(node, kernel), wires.dims(node.input[0])
    if found.pads is None and dims is None:
        return f"auto_pad {attribute(node, 'auto_pad')} needs the size of its input, which is not known"
    begins, ends = found.padding(tuple(dims[2:]) if dims is not None else ())
    return Window(kernel, found.strides, found.dilations, (*begins, *ends), groups)


@reads("MatMul")
def _matmul(wires: Wires, node: onnx.NodeProto) -> Dot | str:
    weight = wires.known.get(node.input[1])
    if weight is None or weight.ndim != 2:
        return "its weights are no matrix on the right"
    dims = wires.dims(node.input[0])
    rank = len(dims) if dims else 2
    if rank < 2:
        return "its input is a single row"
    return Dot(node, node.input[0], weight.T, np.zeros(weight.shape[1]), Layout(rank, rank - 1, weight.shape[0]))


@reads("Gemm")
def _gemm(wires: Wires, node: onnx.NodeProto) -> Dot | str:
    weight = wires.known.get(node.input[1])
    if weight is None or attribute(node, "transA", 0):
        return "its weights are no matrix on the right" if weight is None else "its input is transposed"
    rows = weight if attribute(node, "transB", 0) else weight.T
    bias = _vector(wires, node, 2, len(rows))
    if bias is None:
        return "its bias is computed or no row"
    share = attribute(node, "beta", 1.0)
    factor = attribute(node, "alpha", 1.0)
    return Dot(node, node.input[0], rows, bias * share, Layout(2, 1, rows.shape[1]), factor=factor)


def _vector(wires: Wires, node: onnx.NodeProto, position: int, length: int) -> np.ndarray | None:
    """A bias as (length,), zeros where there is none."""
    if len(node.input) <= position or not node.input[position]:
        return np.zeros(length)
    value = wires.known.get(node.input[position])
    if value is None or value.size not in (1, length) or (value.ndim and value.shape[-1] not in (1, length)):
        return None
    if value.size == length and value.ndim > 1 and value.shape[-1] != length:
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (length,))


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
