"""Biases as integer kernels want them: 32 bits, with the scale of the products that they are added to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from ....graph.layer import Floats, Layer
from ....graph.model import Model
from ....graph.nodes import replace_nodes
from ...precision.grid import Affine, Quantized
from ...rewrite.edit import drop_unread
from ...simplify import Names
from ..placement.insert import insert_dequantize

LARGEST_BIAS = float(1 << 30)
"""Of the integers that a bias becomes, so that sums with it stay below 2³¹."""


def roomy(quantized: Quantized, wanted: Floats, offset: Floats, x_scale: float) -> Quantized:
    """The same with larger scales in rows whose bias would not fit 32 bits otherwise, such as rows of zeros.

    Shapes: wanted (groups, outputs, columns), offset (groups, outputs).
    """
    least = np.abs(offset)[:, :, None] / (LARGEST_BIAS * x_scale)
    if quantized.block or (np.abs(quantized.scale) >= least).all():
        return quantized
    small = np.abs(quantized.scale) < least
    scale = np.where(small, least, quantized.scale)
    integers = np.where(small, quantized.grid.round(wanted, scale), quantized.integers).astype(np.int32)
    return replace(quantized, scale=scale, integers=integers)


def store_biases(model: Model, stored: Mapping[str, tuple[Layer, Quantized, Affine]]) -> Model:
    """A copy in which each layer's bias is 32-bit integers with the scale of its products, input times weight.

    ``stored`` holds layers by the name of the tensor that the node makes which adds the bias, with the integers of their
    weights and of what they read.
    """
    changed, names = model.copy(), Names(model)
    nodes: list[onnx.NodeProto] = []
    for node in changed.graph.node:
        found = stored.get(node.output[0] if node.output else "")
        if found is not None and found[0].bias in node.input:
            layer, quantized, x = found
            place = list(node.input).index(str(layer.bias))
            bias = np.asarray(model.weights[node.input[place]], np.float64).reshape(-1) * layer.beta
            scale = (quantized.scale.reshape(-1).astype(np.float32) * x.scale).astype(np.float32)
            integers = np.clip(np.rint(bias / scale.astype(np.float64)), -(2**31), 2**31 - 1).astype(np.int32)
            nodes.append(
                insert_dequantize(changed, names, node, place, integers, scale, np.zeros(len(scale), np.int32), 0)
            )
        nodes.append(node)
    replace_nodes(changed.graph, nodes)
    drop_unread(changed)
    return changed
