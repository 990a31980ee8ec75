"""Small networks with operators on bits, for tests of everything that looks at a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.kernels.operators import DOMAIN, attach
from intaglio.kernels.packing import pack

PADS, FREE = [1, 1, 1, 1], [0, 0, 0, 0]


class Net:
    """Nodes and weights as they are added. ``node`` returns the name of the output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{op.lower()}{1 + sum(n.op_type == op for n in self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def bits(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.node(op, *inputs, domain=DOMAIN, **attributes)

    def weight(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def floats(self, *shape: int) -> str:
        return self.weight(self.rng.standard_normal(shape).astype(np.float32))

    def signs(self, planes: int, rows: int, length: int) -> str:
        """Packed. Shapes: (planes, rows, ceil(length / 8))."""
        return self.weight(pack(self.rng.choice([-1.0, 1.0], (planes, rows, length))))

    def packed(self, x: str, *perm: int) -> str:
        return self.bits("BitPack", x, self.weight(np.zeros(1, np.float32)), perm=list(perm))

    def convolved(self, bits: str, channels: int, filters: int, *, planes: int = 1, **attributes: Any) -> str:
        """A 3 x 3 convolution of bits, with a scale and a bias."""
        settings = convolution(channels, **attributes)
        weight = self.signs(planes, filters, 9 * channels // settings["group"])
        return self.bits("BConv", bits, weight, self.floats(filters), self.floats(filters), **settings)

    def model(
        self, inputs: dict[str, Any], outputs: dict[str, int], *, opset: int = 17, shape: Any = None
    ) -> onnx.ModelProto:
        """``inputs`` are shapes of floats, ``outputs`` element types; ``shape`` is that of each output, if stated."""
        graph = helper.make_graph(
            self.nodes,
            "packed",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, kind in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        attach(proto)
        return proto


def convolution(channels: int, **changes: Any) -> dict[str, Any]:
    """Attributes of a 3 x 3 convolution that keeps the image's size."""
    fixed = {"channels": channels, "kernel": [3, 3], "strides": [1, 1], "pads": PADS, "dilations": [1, 1]}
    return {**fixed, "group": 1, "pad_value": 1.0, **changes}


def binary_cnn(
    *, batch: int | str = "N", width: int = 12, size: int = 8, opset: int = 17, seed: int = 0
) -> onnx.ModelProto:
    """A float stem, a residual block of two binary convolutions, packed pooling, and float layers after them."""
    n = Net(seed)
    stem = n.node("Conv", "x", n.floats(width, 3, 3, 3), n.floats(width), pads=PADS)
    first = n.convolved(n.packed(stem, 0, 2, 3, 1), width, width, planes=2)
    block = n.node("Add", stem, first)
    settings = convolution(width, pad_value=0.0)
    threshold = n.weight(np.arange(-width // 2, width - width // 2, dtype=np.int32))
    bits = n.bits("BConvBits", n.packed(block, 0, 2, 3, 1), n.signs(1, width, 9 * width), threshold, **settings)
    pooled = n.bits("BMaxPool", bits, channels=width, kernel=[2, 2], strides=[2, 2], pads=FREE)
    last = n.node("Relu", n.convolved(pooled, width, 2 * width))
    mixed = n.node("Conv", last, n.floats(width, 2 * width, 1, 1), n.floats(width))
    flat = n.node("Flatten", n.node("GlobalAveragePool", mixed))
    rows = n.bits("BGemm", n.packed(flat, 0, 1), n.signs(1, 16, width), n.floats(16), n.floats(16), channels=width)
    scale = n.weight(np.abs(n.rng.standard_normal((1, 10, 2))).astype(np.float32))
    y = n.bits("MatMul1Bit", rows, n.signs(1, 10, 16), scale, channels=16, block=8)
    return n.model({"x": [batch, 3, size, size]}, {y: TensorProto.FLOAT}, opset=opset, shape=[batch, 10])


def one_bit_cnn(
    *, batch: int | str = "N", width: int = 12, size: int = 8, opset: int = 17, seed: int = 0
) -> onnx.ModelProto:
    """Float convolutions and a product whose weights are bits, decoded in the graph."""
    n = Net(seed)
    stem = n.node("Relu", n.node("Conv", "x", n.floats(width, 3, 3, 3), n.floats(width), pads=PADS))
    scale = n.weight(np.abs(n.rng.standard_normal((2, 16, 1))).astype(np.float32))
    matrix = n.bits("UnpackWeight", n.signs(2, 16, 9 * width), scale, channels=9 * width, block=9 * width)
    filters = n.node("Reshape", matrix, n.weight(np.array([16, width, 3, 3], np.int64)))
    image = n.node("Relu", n.node("Conv", stem, filters, n.floats(16), pads=PADS))
    flat = n.node("Flatten", n.node("GlobalAveragePool", image))
    scale = n.weight(np.abs(n.rng.standard_normal((1, 10, 1))).astype(np.float32))
    y = n.bits("MatMul1Bit", flat, n.signs(1, 10, 16), scale, channels=16, block=16)
    return n.model({"x": [batch, 3, size, size]}, {y: TensorProto.FLOAT}, opset=opset, shape=[batch, 10])
