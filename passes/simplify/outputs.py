"""Which output channel each weight of a layer belongs to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from ...graph.nodes import attribute

IntArray = NDArray[np.int64]


def conv_outputs(node: onnx.NodeProto, weight: np.ndarray) -> IntArray:
    """Shapes: weight (M, C/group, ...)."""
    return np.arange(weight.shape[0]).reshape(-1, *[1] * (weight.ndim - 1))


def conv_transpose_outputs(node: onnx.NodeProto, weight: np.ndarray) -> IntArray:
    """Shapes: weight (C, M/group, ...); input channels of one group lie together."""
    groups, width = attribute(node, "group", 1), weight.shape[1]
    first = np.repeat(np.arange(groups) * width, weight.shape[0] // groups)
    return (first[:, None] + np.arange(width)).reshape(weight.shape[0], width, *[1] * (weight.ndim - 2))


def gemm_outputs(node: onnx.NodeProto, weight: np.ndarray) -> IntArray:
    """Shapes: weight (K, N), or (N, K) with ``transB``."""
    transposed = attribute(node, "transB", 0)
    return np.arange(weight.shape[0])[:, None] if transposed else np.arange(weight.shape[1])[None]


def matmul_outputs(node: onnx.NodeProto, weight: np.ndarray) -> IntArray:
    """Shapes: weight (K, N)."""
    return np.arange(weight.shape[1])[None]


OUTPUTS: dict[str, Callable[[onnx.NodeProto, np.ndarray], IntArray]] = {
    "Conv": conv_outputs,
    "ConvTranspose": conv_transpose_outputs,
    "Gemm": gemm_outputs,
    "MatMul": matmul_outputs,
}
"""By layer type: which output channel each weight belongs to, in a shape that broadcasts against the weight's.

The weight is input 1 of all of them.
"""


def output_channels(node: onnx.NodeProto, weight: np.ndarray) -> int:
    return int(OUTPUTS[node.op_type](node, weight).max(initial=-1)) + 1
