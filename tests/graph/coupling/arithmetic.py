"""Random arithmetic on the sizes of an input, saturating and branching, as exporters and people write it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Choice(Protocol):
    """Where a random graph takes its decisions from."""

    def integer(self, low: int, high: int) -> int: ...


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Arithmetic:
    """Numbers computed from the sizes of ``x``, one operator after the other; divisors are never 0."""

    def __init__(self, choice: Choice) -> None:
        self.choice, self.nodes = choice, [helper.make_node("Shape", ["x"], ["shape"])]
        self.weights: dict[str, np.ndarray] = {}
        self.pool = [self.node("Slice", "shape", self.const(k), self.const(k + 1)) for k in (0, 1)]
        self.pool.append(self.node("ReduceProd", "shape", keepdims=1))

    def const(self, *values: int) -> str:
        name = f"k{len(self.weights)}"
        self.weights[name] = int64(*values)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def any(self) -> str:
        if self.choice.integer(0, 2) == 0:
            return self.const(self.choice.integer(0, 40))
        return self.pool[self.choice.integer(0, len(self.pool) - 1)]

    def grow(self) -> None:
        a, b = self.pool[self.choice.integer(0, len(self.pool) - 1)], self.any()
        kind = self.choice.integer(0, 6)
        if kind == 0:
            made = self.node(("Add", "Sub", "Mul")[self.choice.integer(0, 2)], a, b)
        elif kind == 1:
            made = self.node(("Min", "Max")[self.choice.integer(0, 1)], a, b)
        elif kind == 2:
            divisor = self.node("Max", self.node("Abs", b), self.const(1))
            made = self.node(("Div", "Mod")[self.choice.integer(0, 1)], a, divisor)
        elif kind == 3:
            found = self.node(("Equal", "Less", "Greater")[self.choice.integer(0, 2)], a, b)
            made = self.node("Where", found, self.any(), self.any())
        elif kind == 4:
            pair = self.node("Concat", a, b, axis=0)
            made = self.node("Gather", pair, self.const(self.choice.integer(0, 1)), axis=0)
        elif kind == 5:
            table = self.const(*range(self.choice.integer(1, 40)))
            made = self.node("Shape", self.node("Slice", table, self.const(self.choice.integer(0, 3)), a))
        else:
            made = self.node(("Neg", "Abs", "Sign")[self.choice.integer(0, 2)], a)
        self.pool.append(made)

    def model(self) -> onnx.ModelProto:
        """Layers whose result is multiplied by the last numbers, bounded to where floats are exact."""
        total = self.pool[-1]
        for other in self.pool[-3:-1]:
            total = self.node("Add", total, other)
        bounded = self.node("Mod", total, self.const(1009))
        factor = self.node("Cast", bounded, to=TensorProto.FLOAT)
        rng = np.random.default_rng(0)
        self.weights["w1"] = rng.standard_normal((6, 12)).astype(np.float32)
        self.weights["w2"] = rng.standard_normal((12, 3)).astype(np.float32)
        a = self.node("Relu", self.node("MatMul", "x", "w1"))
        self.nodes.append(helper.make_node("Mul", [self.node("MatMul", a, "w2"), factor], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "sizes",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "T", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B2", "T2", 3])],
            [numpy_helper.from_array(v, k) for k, v in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
