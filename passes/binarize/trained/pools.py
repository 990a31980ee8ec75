"""Max pooling: on signs it is a logical operation on bits."""

from __future__ import annotations

import onnx

from ....graph.layer import Window as Sliding
from ....graph.nodes import attribute
from .dots import Window, window_of
from .wires import Wires


def pool_obstacle(node: onnx.NodeProto) -> str:
    """Why a MaxPool cannot be one on bits; empty where it can."""
    kernel = attribute(node, "kernel_shape")
    if len(kernel) != 2 or any(node.output[1:]):
        return "a MaxPool that is not two-dimensional feeds it"
    if attribute(node, "ceil_mode", 0) or any(d != 1 for d in attribute(node, "dilations", [1, 1])):
        return "a MaxPool with dilation or ceil_mode feeds it"
    return ""


def pool_window(wires: Wires, node: onnx.NodeProto) -> Window:
    """Where a MaxPool on images looks."""
    found = Sliding.of(node, tuple(attribute(node, "kernel_shape")))
    window = window_of(wires, node, found)
    return Window(found.kernel, found.strides, (1, 1), (0, 0, 0, 0), 1) if isinstance(window, str) else window
