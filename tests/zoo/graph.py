"""Write an ONNX graph as one function: operators are called by name and return the names of their outputs.

def tiny(g: Graph, x: str) -> str:
    y = g.op("Relu", g.conv(x, 3, 12))
    return g.linear(g.op("Flatten", y), 12 * 64, 10)
"""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from .inputs import Input


def ir_version(opset: int) -> int:
    """The oldest that may carry models of an operator set: a newer one would shut out older runtimes."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


class Graph:
    """A growing graph with seeded weights of healthy size."""

    def __init__(self, name: str, opset: int) -> None:
        self.name = name
        self.opset = opset
        self.domains: dict[str, int] = {}
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.known: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.count = itertools.count(1)

    def fresh(self, stem: str) -> str:
        """A name that no value has yet."""
        return f"{stem}_{next(self.count)}"

    def nested(self) -> Graph:
        """A graph for a subgraph: its own nodes, but names, weights and random numbers of this one."""
        inner = copy.copy(self)
        inner.nodes, inner.inputs = [], []
        return inner

    def declare(self, inputs: dict[str, Input]) -> list[str]:
        """Make the graph's inputs."""
        for name, spec in inputs.items():
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
            self.inputs.append(helper.make_tensor_value_info(name, kind, spec.shape))
        return list(inputs)

    def ops(self, kind: str, *inputs: str, count: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        outputs = [self.fresh(kind) for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=self.fresh("node"), domain=domain, **attributes))
        return outputs

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.ops(kind, *inputs, count=1, domain=domain, **attributes)[0]

    def const(self, value: ArrayLike, dtype: str | None = None) -> str:
        """An initializer with this value; Python integers become int64, floats float32."""
        array = np.asarray(value)
        kind = dtype or {"f": "float32", "i": "int64"}.get(array.dtype.kind, array.dtype.name)
        self.constants.append(numpy_helper.from_array(array.astype(kind), self.fresh("const")))
        return self.constants[-1].name

    def weight(self, *shape: int, fan_in: float | None = None) -> str:
        """A random matrix or filter bank of shape (out, in, ...) that keeps the size of what it multiplies."""
        spread = 1.3 / math.sqrt(fan_in or math.prod(shape[1:]))
        return self.const(spread * self.random.standard_normal(shape))

    def vector(self, *shape: int) -> str:
        """Biases: small, above zero more often than below."""
        return self.const(0.15 + 0.25 * self.random.standard_normal(shape))

    def scale(self, *shape: int) -> str:
        """Positive factors around one."""
        return self.const(self.random.uniform(0.5, 1.5, shape))

    def conv(self, x: str, inside: int, out: int, kernel: int = 3, *, groups: int = 1, stride: int = 1) -> str:
        """2-D convolution with bias that keeps the size."""
        weight = self.weight(out, inside // groups, kernel, kernel)
        pads = [kernel // 2] * 4
        return self.op("Conv", x, weight, self.vector(out), group=groups, strides=[stride] * 2, pads=pads)

    def linear(self, x: str, inside: int, out: int) -> str:
        """Gemm with a weight of shape (out, in)."""
        return self.op("Gemm", x, self.weight(out, inside), self.vector(out), transB=1)

    def matmul(self, x: str, inside: int, out: int) -> str:
        """MatMul with a weight of shape (in, out), and a bias."""
        return self.op("Add", self.op("MatMul", x, self.weight(inside, out, fan_in=inside)), self.vector(out))

    def classify(self, x: str, inside: int, out: int = 10) -> str:
        """Mean over pixels and a linear layer."""
        return self.linear(self.op("Flatten", self.op("GlobalAveragePool", x)), inside, out)

    def state(self, name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        """A value with its type, for the ends of subgraphs and for what shape inference cannot find out."""
        return helper.make_tensor_value_info(name, kind, shape)

    def finish(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The checked model, with the shapes of its outputs."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, [], self.constants, value_info=self.known)
        opsets = [helper.make_opsetid(*item) for item in {"": self.opset, **self.domains}.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version(self.opset), functions=self.functions
        )
        known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {value.name: value for value in [*known.value_info, *known.input]}
        for output in outputs:
            model.graph.output.append(types[output])
        onnx.checker.check_model(model, full_check=True)
        return model
