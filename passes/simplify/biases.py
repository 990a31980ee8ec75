"""Give every layer a bias, so that whoever refits its weights has a place for the mean."""

from __future__ import annotations

import numpy as np

from ...graph.model import Model
from ...graph.nodes import display_name, refill, set_attribute
from ...graph.traits import operator
from .names import Names
from .outputs import OUTPUTS, output_channels


def with_biases(model: Model) -> Model:
    """A copy in which Conv, ConvTranspose and Gemm with constant weights and no bias have one of zeros.

    A MatMul stays as it is. ``beta`` of a Gemm that gets a bias becomes 1, as it had no meaning before.
    """
    changed = model.copy()
    names = Names(model)
    for node in changed.graph.node:
        if node.op_type not in OUTPUTS or operator(node).bias is None:
            continue
        weight = changed.weights.get(node.input[1])
        if weight is None or any(node.input[2:]):
            continue
        zeros = np.zeros(output_channels(node, weight), dtype=weight.dtype)
        name = changed.put(names.fresh(f"{display_name(node)}_bias"), zeros)
        refill(node.input, [*node.input[:2], name])
        if node.op_type == "Gemm":
            set_attribute(node, "beta", 1.0)
    return changed
