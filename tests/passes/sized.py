"""Random networks with free sizes: shape arithmetic that saturates, If, Loop and Scan between layers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.coupling.arithmetic import Arithmetic, Choice

WIDTH = 32
F = TensorProto.FLOAT


class Network(Arithmetic):
    """Blocks that keep (batch, length, width), and numbers computed from the sizes that steer them."""

    def __init__(self, choice: Choice, width: int = WIDTH) -> None:
        super().__init__(choice)
        self.width = width
        self.rng = np.random.default_rng(choice.integer(0, 9))
        self.value = "x"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = (self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        return name

    def small(self, most: int) -> str:
        """A scalar from 0 to ``most``, computed from the sizes."""
        bounded = self.node("Min", self.node("Abs", self.pool[-1]), self.const(most))
        return self.node("Squeeze", bounded)

    def bias(self, value: str, width: int = 0) -> str:
        return self.node("Add", value, self.weight(width or self.width))

    def wide(self) -> str:
        inner = self.node(
            "Relu", self.bias(self.node("MatMul", self.value, self.weight(self.width, 2 * self.width)), 2 * self.width)
        )
        return self.node(
            "Add", self.bias(self.node("MatMul", inner, self.weight(2 * self.width, self.width))), self.value
        )

    def heads(self) -> str:
        """Products of unequal widths whose channels are laid side by side, turned, cut elsewhere and multiplied."""
        widths = (self.width // 2, self.width, self.width // 2)
        parts = [self.bias(self.node("MatMul", self.value, self.weight(self.width, n)), n) for n in widths]
        both = self.node("Transpose", self.node("Concat", *parts, axis=2), perm=[0, 2, 1])
        cuts = [
            self.node("Slice", both, self.const(k), self.const(k + self.width), self.const(1)) for k in (0, self.width)
        ]
        gated = self.node("Mul", self.node("Sigmoid", cuts[0]), cuts[1])
        return self.node("MatMul", self.node("Transpose", gated, perm=[0, 2, 1]), self.weight(self.width, self.width))

    def folded(self) -> str:
        """Through rows and back, by shapes that are computed."""
        rows = self.node("Concat", self.const(-1), self.const(self.width), axis=0)
        flat = self.node("Reshape", self.value, rows)
        flat = self.node("Gemm", flat, self.weight(self.width, self.width), self.weight(self.width))
        shape = self.node("Concat", *self.pool[:2], self.const(self.width), axis=0)
        return self.node("Reshape", flat, shape)

    def branch(self) -> str:
        arms = [
            [helper.make_node("Neg", [self.value], ["o"])],
            [
                helper.make_node("MatMul", [self.value, self.weight(self.width, 2 * self.width)], ["m"]),
                helper.make_node("Tanh", ["m"], ["h"]),
                helper.make_node("MatMul", ["h", self.weight(2 * self.width, self.width)], ["o"]),
            ],
        ]
        graphs = [
            helper.make_graph(nodes, f"arm{k}", [], [helper.make_tensor_value_info("o", F, None)])
            for k, nodes in enumerate(arms)
        ]
        is_small = self.node("Less", self.small(40), self.node("Squeeze", self.const(self.choice.integer(1, 30))))
        return self.node("If", is_small, then_branch=graphs[0], else_branch=graphs[1])

    def loop(self) -> str:
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["on"]),
                helper.make_node("MatMul", ["h", self.weight(self.width, 2 * self.width)], ["m"]),
                helper.make_node("Relu", ["m"], ["r"]),
                helper.make_node("MatMul", ["r", self.weight(2 * self.width, self.width)], ["n"]),
                helper.make_node("Tanh", ["n"], ["next"]),
            ],
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("h", F, None),
            ],
            [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", F, None)],
        )
        return self.node("Loop", self.small(3), "", self.value, body=body)

    def scan(self) -> str:
        """Running sums along the length."""
        first = self.node("Mul", self.node("ReduceMax", self.value, axes=[1], keepdims=0), self.weight(1, self.width))
        body = helper.make_graph(
            [
                helper.make_node("Mul", ["state", "half"], ["faded"]),
                helper.make_node("Add", ["faded", "now"], ["sum"]),
                helper.make_node("Identity", ["sum"], ["out"]),
            ],
            "body",
            [helper.make_tensor_value_info(n, F, ["b", self.width]) for n in ("state", "now")],
            [helper.make_tensor_value_info(n, F, ["b", self.width]) for n in ("sum", "out")],
            [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
        )
        name = f"t{len(self.nodes)}"
        inputs = [first, self.value]
        made = helper.make_node(
            "Scan",
            inputs,
            ["", name],
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
            body=body,
        )
        made.output[0] = f"{name}_last"
        self.nodes.append(made)
        return name

    def block(self) -> None:
        kinds = (self.wide, self.folded, self.branch, self.loop, self.scan, self.heads)
        self.value = kinds[self.choice.integer(0, len(kinds) - 1)]()

    def finished(self) -> onnx.ModelProto:
        """Ends in layers, times a number computed from the sizes that floats hold exactly."""
        self.value = self.wide()
        # True at length 37, and at none of the sizes that shapes are read at.
        squared = self.node("Mul", self.pool[1], self.pool[1])
        rare = self.node("Equal", self.node("Mod", squared, self.const(1009)), self.const(360))
        seldom = self.node("Squeeze", self.node("Where", rare, self.const(2), self.const(1)))
        factor = self.node("Cast", self.node("Add", self.small(40), seldom), to=F)
        last = self.node("MatMul", self.value, self.weight(self.width, 5))
        self.nodes.append(helper.make_node("Mul", [last, factor], ["y"]))
        ends = [
            helper.make_tensor_value_info("x", F, ["B", "T", self.width]),
            helper.make_tensor_value_info("y", F, None),
        ]
        weights = [numpy_helper.from_array(v, k) for k, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, "sizes", ends[:1], ends[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def network(choice: Choice, width: int = WIDTH) -> onnx.ModelProto:
    net = Network(choice, width)
    for _ in range(choice.integer(1, 3)):
        for _ in range(choice.integer(1, 3)):
            net.grow()
        net.block()
    return net.finished()
