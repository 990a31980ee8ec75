"""Operators that runtimes compute in integers, and what each needs for it.

Which these are is told by the traits; tests hold them to the graphs that ONNX Runtime and OpenVINO really make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx

from ....graph.model import Model
from ....graph.nodes import attribute
from ....graph.traits import OPERATORS, Runtime, Trait, has, has_any, operator

Obstacle = Callable[[onnx.NodeProto, Model], str]


@dataclass(frozen=True)
class Kernel:
    """``many`` kernels compute with all their operands, constants among them; others with the first, an activation.

    ``starts`` kernels are worth it on their own, others only between integers. ``moves`` only moves values: its output
    has its input's scale. ``float_out`` kernels can give floats. ``obstacle`` says why a node cannot be one of integers,
    beside what is wrong with its weight. ``lowest`` is where its range begins, where that always ends at 1.
    """

    many: bool
    starts: bool
    moves: bool
    float_out: bool
    obstacle: Obstacle
    lowest: float | None = None


def _gemm(node: onnx.NodeProto, model: Model) -> str:
    scaled = attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1
    return "it scales its operands" if scaled else ""


def _matmul(node: onnx.NodeProto, model: Model) -> str:
    computed = node.input[1] not in model.weights
    return "both factors are activations, which runtimes are hardly faster at in integers" if computed else ""


def _nearest(node: onnx.NodeProto, model: Model) -> str:
    if attribute(node, "mode", "nearest") != "nearest":
        return "it interpolates"
    return "it names axes, and is not laid out anew for integers" if attribute(node, "axes") else ""


def _zeros(node: onnx.NodeProto, model: Model) -> str:
    if attribute(node, "mode", "constant") != "constant":
        return "it pads with its own edge"
    value = model.weights.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return "" if value is not None and not np.any(value) else "it pads with something else than zeros"


def _transposed(node: onnx.NodeProto, model: Model) -> str:
    return "its weights are not rounded together with activations"


_OBSTACLES: Mapping[str, Obstacle] = {
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Resize": _nearest,
    "Pad": _zeros,
}
_UP_TO_ONE = {"Sigmoid": 0.0, "Softmax": 0.0, "Tanh": -1.0}
"""What LiteRT's kernels give lies between these and 1, in as many steps as there are integers, and in no others."""


def _kernel(op: str, runtime: Runtime) -> Kernel:
    row = operator(op)
    many = row.data is None
    moves = not many and has_any(op, Trait.MOVES | Trait.FILLS | Trait.SELECTS | Trait.SAMPLES)
    obstacle = _OBSTACLES.get(op, lambda node, model: "")
    lowest = _UP_TO_ONE.get(op) if runtime == Runtime.LITERT else None
    return Kernel(many, has(op, Trait.LAYER), moves, runtime in row.float_out, obstacle, lowest)


@cache
def kernels(runtime: Runtime) -> Mapping[str, Kernel]:
    """By operator, of all that the runtime, or each of several, computes in integers."""
    return {op: _kernel(op, runtime) for op, row in OPERATORS.items() if runtime in row.integer}
