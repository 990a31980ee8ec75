"""Small networks with a layer of every kind, and inputs for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from intaglio.graph.io.opset import raise_opset
from intaglio.graph.model import Model
from intaglio.passes import Context
from tests.passes.parsed import data_for, parsed


@dataclass(frozen=True)
class Network:
    """Text of a network. ``x`` is the shape of one sample, ``layers`` how many layers integers can compute."""

    inputs: str
    outputs: str
    weights: str
    nodes: str
    x: tuple[int, ...]
    layers: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def model(self, opset: int = 17) -> Model:
        """The same nodes at another operator set, all of which know them."""
        model = parsed(self.inputs, self.outputs, self.weights, self.nodes, **self.values)
        for declared in model.proto.opset_import:
            declared.version = min(declared.version, opset)
        return raise_opset(model, opset)

    def samples(self, count: int = 64, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((count, *self.x)).astype(np.float32)

    def context(self, model: Model, count: int = 64) -> Context:
        return Context(data=data_for(model, x=self.samples(count)))


NETWORKS = {
    "plain": Network(
        "float[N, 3, 8, 8] x",
        "float[N, 5] y",
        "float[8, 3, 3, 3] w1, float[8] b1, float[8, 8, 3, 3] w2, float[8] b2, float[5, 8] w3, float[5] b3",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r = Relu(a) b = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r, w2, b2) "
        "s = Relu(b) p = GlobalAveragePool(s) f = Flatten(p) y = Gemm <transB = 1> (f, w3, b3)",
        (3, 8, 8),
        3,
    ),
    "residual": Network(
        "float[N, 4, 8, 8] x",
        "float[N, 6, 8, 8] y",
        "float[8, 4, 1, 1] w1, float[8, 8, 3, 3] w2, float[8] b2, float[6, 8, 1, 1] w3",
        "a = Conv(x, w1) b = Conv <pads = [1, 1, 1, 1]> (a, w2, b2) s = Add(a, b) r = Relu(s) y = Conv(r, w3)",
        (4, 8, 8),
        3,
    ),
    "depthwise": Network(
        "float[N, 8, 8, 8] x",
        "float[N, 6, 6, 6] y",
        "float[8, 1, 3, 3] w1, float[8] b1, float[6, 8, 1, 1] w2, float low, float high",
        "a = Conv <group = 8> (x, w1, b1) r = Clip(a, low, high) y = Conv(r, w2)",
        (8, 8, 8),
        2,
        {"low": np.array(0, np.float32), "high": np.array(6, np.float32)},
    ),
    "grouped": Network(
        "float[N, 8, 6, 6] x",
        "float[N, 4, 6, 6] y",
        "float[12, 4, 3, 3] w1, float[12] b1, float[4, 12, 1, 1] w2",
        "a = Conv <group = 2, pads = [1, 1, 1, 1], dilations = [1, 1]> (x, w1, b1) r = Relu(a) y = Conv(r, w2)",
        (8, 6, 6),
        2,
    ),
    "one_dimensional": Network(
        "float[N, 4, 20] x",
        "float[N, 3, 18] y",
        "float[8, 4, 3] w1, float[8] b1, float[3, 8, 1] w2",
        "a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2)",
        (4, 20),
        2,
    ),
    "three_dimensional": Network(
        "float[N, 2, 5, 6, 6] x",
        "float[N, 3, 3, 4, 4] y",
        "float[4, 2, 3, 3, 3] w1, float[4] b1, float[3, 4, 1, 1, 1] w2",
        "a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2)",
        (2, 5, 6, 6),
        2,
    ),
    "products": Network(
        "float[N, 5, 12] x",
        "float[N, 5, 4] y",
        "float[12, 16] w1, float[16] b1, float[16, 4] w2",
        "a = MatMul(x, w1) c = Add(a, b1) r = Relu(c) y = MatMul(r, w2)",
        (5, 12),
        2,
    ),
    "shared": Network(
        "float[N, 8, 6, 6] x",
        "float[N, 8, 6, 6] y",
        "float[8, 8, 1, 1] w, float[8] b1, float[8] b2",
        "a = Conv(x, w, b1) r = Relu(a) y = Conv(r, w, b2)",
        (8, 6, 6),
        2,
    ),
    "transposed": Network(
        "float[N, 4, 6, 6] x",
        "float[N, 3, 12, 12] y",
        "float[8, 4, 3, 3] w1, float[8] b1, float[8, 6, 2, 2] w2, float[3, 6, 1, 1] w3",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r = Relu(a) u = ConvTranspose <strides = [2, 2]> (r, w2) "
        "v = Relu(u) y = Conv(v, w3)",
        (4, 6, 6),
        2,
    ),
}
