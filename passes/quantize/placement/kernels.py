"""Operators that runtimes compute in integers, and what each needs for it.

The table says what ONNX Runtime fuses with the QuantizeLinear and DequantizeLinear nodes around it; tests hold every
entry to the graph that the runtime really makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.model import Model
from ....graph.nodes import attribute

Obstacle = Callable[[onnx.NodeProto, Model], str]


def _none(node: onnx.NodeProto, model: Model) -> str:
    return ""


@dataclass(frozen=True)
class Kernel:
    """``weight`` is the place of a constant, ``data`` are those of activations (None: all inputs).

    ``starts`` kernels are worth it on their own, others only between integers. ``moves`` only moves values: its output
    has its input's scale. ``float_out`` kernels can give floats. ``obstacle`` says why a node cannot be one of integers,
    beside what is wrong with its weight.
    """

    data: tuple[int, ...] | None = (0,)
    weight: int | None = None
    starts: bool = False
    moves: bool = False
    float_out: bool = False
    constants: bool = False
    obstacle: Obstacle = _none


def _gemm(node: onnx.NodeProto, model: Model) -> str:
    scaled = attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1
    return "it scales its operands" if scaled else ""


def _matmul(node: onnx.NodeProto, model: Model) -> str:
    computed = node.input[1] not in model.weights
    return "both factors are activations, which runtimes are hardly faster at in integers" if computed else ""


def _nearest(node: onnx.NodeProto, model: Model) -> str:
    if attribute(node, "mode", "nearest") != "nearest":
        return "it interpolates"
    return "ONNX Runtime cannot lay it out anew for integers" if attribute(node, "axes") else ""


def _zeros(node: onnx.NodeProto, model: Model) -> str:
    if attribute(node, "mode", "constant") != "constant":
        return "it pads with its own edge"
    value = model.weights.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return "" if value is not None and not np.any(value) else "it pads with something else than zeros"


_MOVE = Kernel(moves=True)
_BETWEEN = Kernel()
_MANY = Kernel(data=None, constants=True)

KERNELS: Mapping[str, Kernel] = {
    "Conv": Kernel(weight=1, starts=True),
    "Gemm": Kernel(weight=1, starts=True, float_out=True, obstacle=_gemm),
    "MatMul": Kernel(weight=1, starts=True, float_out=True, obstacle=_matmul),
    "Add": _MANY,
    "Mul": _MANY,
    "Concat": _MANY,
    "AveragePool": _BETWEEN,
    "GlobalAveragePool": _BETWEEN,
    "LeakyRelu": _BETWEEN,
    "Sigmoid": _BETWEEN,
    "MaxPool": _MOVE,
    "Reshape": _MOVE,
    "Flatten": _MOVE,
    "Transpose": _MOVE,
    "Squeeze": _MOVE,
    "Unsqueeze": _MOVE,
    "Slice": _MOVE,
    "Split": _MOVE,
    "Gather": _MOVE,
    "DepthToSpace": _MOVE,
    "SpaceToDepth": _MOVE,
    "Expand": _MOVE,
    "Tile": _MOVE,
    "Resize": Kernel(moves=True, obstacle=_nearest),
    "Pad": Kernel(moves=True, obstacle=_zeros),
}

RECTIFIERS = ("Relu", "Clip")
"""What a saturating conversion to integers can do by itself."""
