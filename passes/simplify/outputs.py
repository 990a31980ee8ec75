"""Which output channel each weight of a layer belongs to."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from ...graph.nodes import attribute

OUTPUTS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""By layer type: the axis of the weight, its input 1, that counts outputs, of a ConvTranspose those of each group.

Shapes: Conv (M, C/group, ...), ConvTranspose (C, M/group, ...), Gemm (K, N), or (N, K) with ``transB``, MatMul (K, N).
"""


def outputs_of(node: onnx.NodeProto, weight: np.ndarray) -> NDArray[np.int64]:
    """In a shape that broadcasts against the weight's."""
    axis = 0 if attribute(node, "transB", 0) else OUTPUTS[node.op_type]
    found = np.arange(weight.shape[axis]).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    if node.op_type != "ConvTranspose":
        return found
    groups = attribute(node, "group", 1)  # their input channels lie together
    first = np.repeat(np.arange(groups) * weight.shape[1], weight.shape[0] // groups)
    return found + first.reshape(-1, *[1] * (weight.ndim - 1))


def output_channels(node: onnx.NodeProto, weight: np.ndarray) -> int:
    return int(outputs_of(node, weight).max(initial=-1)) + 1
