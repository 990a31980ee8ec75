"""The layers at both ends of a network."""

from __future__ import annotations

from collections.abc import Collection

from ...graph.model import Model
from ...graph.nodes import reads

FIRST, LAST = "the first layer, which sees the input", "the last layer, which makes the output"


def edges(model: Model, layers: Collection[str]) -> dict[str, str]:
    """Layers with none before them, and with none after."""
    found = {}
    for reason, nodes in ((LAST, reversed(model.graph.node)), (FIRST, model.graph.node)):
        forwards = reason == FIRST
        behind: set[str] = set()  # tensors with a layer before (or after) them
        for node in nodes:
            read, makes = set(reads(node)), set(node.output)
            sources, targets = (read, makes) if forwards else (makes, read)
            here = bool(node.output) and node.output[0] in layers
            if here and not sources & behind:
                found[node.output[0]] = reason
            if here or sources & behind:
                behind |= targets
    return found
