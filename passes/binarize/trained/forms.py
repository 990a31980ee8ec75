"""The forms in which layers of signs can be written: what each part of such a layer becomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from ....graph.nodes import copied
from ....kernels.operators import DOMAIN
from ....kernels.packing import unpack
from ...rewrite.edit import Edit
from ..storage.products import pays
from .bits import Bits
from .fuse import Fusion
from .layer import Layer
from .lean import keep
from .pools import pool_window
from .steps import Layout
from .wires import Wires


@dataclass(frozen=True)
class Form(ABC):
    """Writes parts of layers into ``edit``. What stands for signs is the name of a tensor, in a layout of the form's own."""

    edit: Edit
    wires: Wires
    stored: dict[tuple[object, ...], str] = field(default_factory=dict)

    @abstractmethod
    def signs(self, x: str, bits: Bits, threshold: np.ndarray, stem: str) -> str:
        """The signs of a float tensor: -1 below the threshold. Shapes: threshold float32 (C,)."""

    @abstractmethod
    def pooled(self, signs: str, node: onnx.NodeProto, channels: int, stem: str) -> str:
        """Max pooling."""

    @abstractmethod
    def flattened(self, signs: str, node: onnx.NodeProto, bits: Bits, stem: str) -> str:
        """Rows of the pixels' signs."""

    @abstractmethod
    def sums(self, signs: str, layer: Layer, scale: np.ndarray, bias: np.ndarray, out: str) -> None:
        """``dot * scale + bias`` as floats, in the tensor ``out``. Shapes: float32 (outputs,) each."""

    @abstractmethod
    def sums_as_signs(self, signs: str, layer: Layer, fusion: Fusion, stem: str) -> str:
        """Signs of ``dot``: -1 below the fusion's threshold, rows that flip negated."""

    def once(self, stem: str, value: np.ndarray) -> str:
        """A constant that is stored once, however many layers share it."""
        key = (value.shape, value.dtype.str, value.tobytes())
        if key not in self.stored:
            self.stored[key] = self.edit.constant(stem, value)
        return self.stored[key]

    def keep(self, node: onnx.NodeProto) -> None:
        """A node that is no layer of signs."""
        self.edit.keep(node)

    @staticmethod
    @abstractmethod
    def read(values: np.ndarray, layout: Layout) -> np.ndarray:
        """What a run gives for signs, as bits in the layout of the original's tensor: true for -1."""

    @abstractmethod
    def weights_only(self, layer: Layer) -> None:
        """A layer with float input."""


class Packed(Form):
    """Bits in bytes, computed by the operators of the domain ``intaglio``.

    Signs of images are (N, H, W, ceil(C / 8)), along one axis (N, 1, L, ceil(C / 8)), of matrices (..., ceil(C / 8)).
    """

    def signs(self, x: str, bits: Bits, threshold: np.ndarray, stem: str) -> str:
        layout = bits.layout
        last = [a for a in range(layout.rank) if a != layout.axis] + [layout.axis]
        level = threshold[:1] if (threshold == threshold[0]).all() else threshold
        found = self._ours("BitPack", [x, self.edit.constant(f"{stem}_threshold", level)], stem, perm=last)
        if layout.axis == 1 and layout.rank == 3:
            axes = self.edit.constant(f"{stem}_axes", np.array([1], np.int64))
            return self.edit.add("Unsqueeze", [found, axes], self.edit.tensor(f"{stem}_image"))
        return found

    def pooled(self, signs: str, node: onnx.NodeProto, channels: int, stem: str) -> str:
        w = pool_window(self.wires, node)
        return self._ours("BMaxPool", [signs], stem, kernel=w.kernel, strides=w.strides, pads=w.pads, channels=channels)

    def flattened(self, signs: str, node: onnx.NodeProto, bits: Bits, stem: str) -> str:
        length = bits.pixels * bits.layout.channels // 8
        shape = self.edit.constant(f"{stem}_shape", np.array([-1, length], np.int64))
        return self.edit.add("Reshape", [signs, shape], self.edit.tensor(stem))

    def sums(self, signs: str, layer: Layer, scale: np.ndarray, bias: np.ndarray, out: str) -> None:
        stem, window = layer.dot.name, layer.window
        inputs = [
            signs,
            self._planes(layer, layer.signs.signs),
            self.edit.constant(f"{stem}_scale", scale),
            self.edit.constant(f"{stem}_bias", bias),
        ]
        flat = window is not None and window.flat
        name = self.edit.tensor(f"{out}_image") if flat else out
        self.edit.add("BConv" if window else "BGemm", inputs, name, name=stem, domain=DOMAIN, **_attributes(layer))
        if flat:
            self.edit.add("Squeeze", [name, self.edit.constant(f"{stem}_axes", np.array([2], np.int64))], out)

    def sums_as_signs(self, signs: str, layer: Layer, fusion: Fusion, stem: str) -> str:
        rows = np.where(fusion.flip[:, None], -layer.signs.signs, layer.signs.signs)
        inputs = [signs, self._planes(layer, rows), self.edit.constant(f"{stem}_threshold", fusion.threshold)]
        op = "BConvBits" if layer.window else "BGemmBits"
        return self._ours(op, inputs, stem, name=layer.dot.name, **_attributes(layer))

    @staticmethod
    def read(values: np.ndarray, layout: Layout) -> np.ndarray:
        negative = unpack(values, layout.channels) < 0
        if layout.axis == 1 and layout.rank == 3:
            negative = negative[:, 0]
        return np.moveaxis(negative, -1, layout.axis)

    def keep(self, node: onnx.NodeProto) -> None:
        keep(self.edit, self.wires, node)

    def weights_only(self, layer: Layer) -> None:
        dot, planes = layer.dot, layer.signs.planes
        length = layer.signs.signs.shape[1]
        each = np.broadcast_to((layer.signs.scale * dot.factor / len(planes)).astype(np.float32), planes.shape[:2])
        inputs = [
            self.once(f"{dot.name}_bits", planes),
            self.edit.constant(f"{dot.name}_scale", np.ascontiguousarray(each[..., None])),
        ]
        size = {"channels": length, "block": length}
        if dot.window is None:
            out = self.edit.tensor(f"{dot.out}_product") if dot.bias.any() else dot.out
            if pays(self.wires.of_one_sample.get(dot.data), layer.signs.signs.size):
                self.edit.add("MatMul1Bit", [dot.data, *inputs], out, name=dot.name, domain=DOMAIN, **size)
            else:
                rows = self._ours("UnpackWeight", inputs, f"{dot.name}_rows", **size)
                matrix = self.edit.add("Transpose", [rows], self.edit.tensor(f"{dot.name}_matrix"), perm=[1, 0])
                self.edit.add("MatMul", [dot.data, matrix], out, name=dot.name)
            if dot.bias.any():
                bias = self.edit.constant(f"{dot.name}_bias", dot.bias.astype(np.float32))
                self.edit.add("Add", [out, bias], dot.out)
            return
        shape = self.edit.constant(f"{dot.name}_shape", np.array(self.wires.known[dot.node.input[1]].shape, np.int64))
        rows = self._ours("UnpackWeight", inputs, f"{dot.name}_rows", **size)
        node = copied(dot.node)
        node.input[1] = self.edit.add("Reshape", [rows, shape], self.edit.tensor(f"{dot.name}_weight"))
        self.edit.keep(node)

    def _planes(self, layer: Layer, signs: np.ndarray) -> str:
        pixels = layer.bits.pixels if layer.bits else 1
        turned = replace(layer.signs, signs=layer.dot.turned(signs, pixels))
        return self.once(f"{layer.dot.name}_bits", turned.planes)

    def _ours(self, op: str, inputs: list[str], stem: str, name: str = "", **attributes: object) -> str:
        out = self.edit.tensor(stem)
        return self.edit.add(op, inputs, out, name=name, domain=DOMAIN, **attributes)


def _attributes(layer: Layer) -> dict[str, object]:
    channels = {"channels": layer.dot.layout.channels}
    if layer.window is None:
        return {**channels}
    image = layer.window.image
    return {
        **channels,
        "kernel": image.kernel,
        "strides": image.strides,
        "pads": image.pads,
        "dilations": image.dilations,
        "group": image.groups,
        "pad_value": float(layer.border),
    }


class Dense(Form):
    """Standard operators on floats of +1 and -1: for any runtime, and to be read and changed. Signs keep their layout."""

    def signs(self, x: str, bits: Bits, threshold: np.ndarray, stem: str) -> str:
        level = bits.layout.along(threshold)
        return self._sign(x, self.edit.constant(f"{stem}_threshold", level), stem)

    def pooled(self, signs: str, node: onnx.NodeProto, channels: int, stem: str) -> str:
        w = pool_window(self.wires, node)
        out = self.edit.tensor(stem)
        return self.edit.add("MaxPool", [signs], out, kernel_shape=w.kernel, strides=w.strides, pads=w.pads)

    def flattened(self, signs: str, node: onnx.NodeProto, bits: Bits, stem: str) -> str:
        copy = copied(node)
        copy.input[0], copy.output[0] = signs, self.edit.tensor(stem)
        self.edit.keep(copy)
        return copy.output[0]

    def sums(self, signs: str, layer: Layer, scale: np.ndarray, bias: np.ndarray, out: str) -> None:
        layout, stem = layer.dot.out_layout, layer.dot.name
        dot = self._dot(signs, layer, layer.signs.signs)
        by = self.edit.constant(f"{stem}_scale", layout.along(scale))
        scaled = self.edit.add("Mul", [dot, by], self.edit.tensor(f"{out}_scaled"))
        shift = self.edit.constant(f"{stem}_bias", layout.along(bias))
        self.edit.add("Add", [scaled, shift], out)

    def sums_as_signs(self, signs: str, layer: Layer, fusion: Fusion, stem: str) -> str:
        layout = layer.dot.out_layout
        rows = np.where(fusion.flip[:, None], -layer.signs.signs, layer.signs.signs)
        dot = self._dot(signs, layer, rows)
        level = layout.along(fusion.threshold.astype(np.float32))
        return self._sign(dot, self.edit.constant(f"{stem}_threshold", level), stem)

    @staticmethod
    def read(values: np.ndarray, layout: Layout) -> np.ndarray:
        return values < 0

    def weights_only(self, layer: Layer) -> None:
        self.edit.keep(layer.dot.node)

    def _dot(self, signs: str, layer: Layer, rows: np.ndarray) -> str:
        stem, window = layer.dot.name, layer.window
        if window is None:
            weight = self._weight(layer, np.ascontiguousarray(rows.T))
            return self.edit.add("MatMul", [signs, weight], self.edit.tensor(f"{stem}_sums"), name=stem)
        channels = layer.dot.layout.channels // window.groups
        weight = self._weight(layer, rows.reshape(len(rows), channels, *window.kernel))
        if any(window.pads) and layer.border:
            half = len(window.kernel)
            pads = np.array([0, 0, *window.pads[:half], 0, 0, *window.pads[half:]], np.int64)
            value = self.edit.constant(f"{stem}_border", np.array(layer.border, np.float32))
            ends = [signs, self.edit.constant(f"{stem}_pads", pads), value]
            signs = self.edit.add("Pad", ends, self.edit.tensor(f"{stem}_padded"))
        return self.edit.add(
            "Conv",
            [signs, weight],
            self.edit.tensor(f"{stem}_sums"),
            name=stem,
            kernel_shape=window.kernel,
            strides=window.strides,
            dilations=window.dilations,
            pads=[0] * len(window.pads) if layer.border else window.pads,
            group=window.groups,
        )

    def _weight(self, layer: Layer, signs: np.ndarray) -> str:
        return self.once(f"{layer.dot.name}_signs", signs.astype(np.float32))

    def _sign(self, x: str, level: str, stem: str) -> str:
        below = self.edit.add("Less", [x, level], self.edit.tensor(f"{stem}_below"))
        ends = [self.edit.constant(f"{stem}_{n}", np.array(v, np.float32)) for n, v in (("minus", -1), ("plus", 1))]
        return self.edit.add("Where", [below, *ends], self.edit.tensor(stem))


FORMS: dict[str, type[Form]] = {"packed": Packed, "dense": Dense}


def stored_bits(layer: Layer, *, fused: bool) -> int:
    """Bits that a packed layer takes in a file: its signs, and its scales and shifts or thresholds."""
    numbers = 1 if fused else 2
    return 8 * layer.signs.planes.nbytes + 32 * numbers * layer.dot.outputs
