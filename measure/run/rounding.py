"""How finely ONNX Runtime computes outputs: some of its functions are rounded to a fixed step, whatever they give."""

from __future__ import annotations

from ...graph.index import index_of
from ...graph.model import Model

SIGMOID_STEP = 2.0**-22
"""Twice what Sigmoid of ONNX Runtime 1.31 was seen to be off by in float32, 1.2e-7: it is a sum with 0.5, so that what it gives
near zero is no finer than what it gives near one."""

_MOVES = frozenset(
    [
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators whose numbers are some of those that they take, or zero."""


def stepped_outputs(model: Model) -> list[str]:
    """Outputs whose numbers are those of Sigmoid, moved about: exact up to ``SIGMOID_STEP``, not up to a part of themselves."""
    index = index_of(model)
    found: dict[str, bool] = {}
    for node in index.nodes:
        parts = node.input if node.op_type == "Concat" else node.input[:1]
        stepped = node.op_type == "Sigmoid" or (node.op_type in _MOVES and all(found.get(name) for name in parts))
        found.update(dict.fromkeys(node.output, stepped))
    return [value.name for value in model.graph.output if found.get(value.name)]
