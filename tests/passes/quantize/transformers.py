"""A small transformer encoder whose activations have outlier channels, in the forms that exporters write."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from tests.zoo.graph import ir_version

Norm = Literal["fused", "decomposed", "rms"]
OUTLIERS = (3, 17)
"""Channels that every normalization makes much larger than the others, as those of large language models are."""


def encoder(
    opset: int = 17, norm: Norm | None = None, *, width: int = 32, heads: int = 4, depth: int = 2, outlier: float = 25.0
) -> Model:
    """Blocks of attention and a perceptron, a mean over tokens and a Gemm. Same arguments, same model.

    Queries, keys and values are three MatMul that read one normalized tensor. Normalizations are LayerNormalization
    from operator set 17 on, single operators before.

    Shapes: x (batch, tokens, width) -> y (batch, 10).
    """
    write = _Writer(norm or ("fused" if opset >= 17 else "decomposed"), opset)
    x = "x"
    for block in range(depth):
        y = write.norm(x, width, outlier)
        query, key, value = (write.heads(write.linear(y, width, width, f"{p}{block}"), heads) for p in "qkv")
        scores = write.op("MatMul", query, write.op("Transpose", key, perm=[0, 1, 3, 2]))
        weights = write.op("Softmax", write.op("Mul", scores, write.const((width // heads) ** -0.5)), axis=-1)
        mixed = write.op("Transpose", write.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        merged = write.op("Reshape", mixed, write.const(np.array([0, 0, width])))
        x = write.op("Add", x, write.linear(merged, width, width, f"out{block}"))
        hidden = write.gelu(write.linear(write.norm(x, width, outlier), width, 2 * width, f"wide{block}"))
        x = write.op("Add", x, write.linear(hidden, 2 * width, width, f"narrow{block}"))
    pooled = write.mean(write.norm(x, width, outlier), 1, keepdims=0)
    write.op("Gemm", pooled, write.random(10, width), write.random(10), output="y", name="head", transB=1)
    return write.model(width)


def tokens(samples: int, count: int = 9, width: int = 32, seed: int = 0) -> np.ndarray:
    """Inputs for it."""
    return np.random.default_rng(seed).standard_normal((samples, count, width)).astype(np.float32)


class _Writer:
    def __init__(self, norm: Norm, opset: int) -> None:
        self.kind, self.opset = norm, opset
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def op(self, kind: str, *inputs: str, output: str = "", name: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name or f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def const(self, value: float | np.ndarray, name: str = "") -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, name or f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def random(self, *shape: int, name: str = "") -> str:
        """Weights that keep the size of what they multiply; small biases."""
        spread = 0.1 if len(shape) == 1 else max(shape) ** -0.5
        return self.const(spread * self.rng.standard_normal(shape), name)

    def linear(self, x: str, inputs: int, outputs: int, name: str) -> str:
        product = self.op("MatMul", x, self.random(inputs, outputs, name=f"{name}_weight"), name=name)
        return self.op("Add", product, self.random(outputs, name=f"{name}_bias"))

    def heads(self, x: str, heads: int) -> str:
        apart = self.op("Reshape", x, self.const(np.array([0, 0, heads, -1])))
        return self.op("Transpose", apart, perm=[0, 2, 1, 3])

    def gelu(self, x: str) -> str:
        if self.opset >= 20:
            return self.op("Gelu", x)
        erf = self.op("Erf", self.op("Div", x, self.const(np.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.const(1.0))), self.const(0.5))

    def mean(self, x: str, axis: int, keepdims: int = 1) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.const(np.array([axis])), keepdims=keepdims)
        return self.op("ReduceMean", x, axes=[axis], keepdims=keepdims)

    def norm(self, x: str, width: int, outlier: float) -> str:
        scale = self.rng.uniform(0.5, 1.5, width)
        scale[[c % width for c in OUTLIERS]] *= outlier
        gamma, beta = self.const(scale), self.random(width)
        if self.kind == "fused":
            return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)
        centred = x if self.kind == "rms" else self.op("Sub", x, self.mean(x, -1))
        variance = self.mean(self.op("Pow", centred, self.const(2.0)), -1)
        deviation = self.op("Sqrt", self.op("Add", variance, self.const(1e-5)))
        scaled = self.op("Mul", self.op("Div", centred, deviation), gamma)
        return scaled if self.kind == "rms" else self.op("Add", scaled, beta)

    def model(self, width: int) -> Model:
        ends = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", width]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10]),
        ]
        used = {name for node in self.nodes for name in node.input}
        constants = [c for c in self.constants if c.name in used]
        graph = helper.make_graph(self.nodes, "encoder", ends[:1], ends[1:], constants)
        imports = [helper.make_opsetid("", self.opset)]
        return from_proto(helper.make_model(graph, opset_imports=imports, ir_version=ir_version(self.opset)))
