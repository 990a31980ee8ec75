"""Names for new tensors."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from ...graph.model import Model
from ...graph.nodes import subgraphs


class Names:
    """The names a model's tensors have, in subgraphs too, and new ones that nobody has."""

    def __init__(self, model: Model) -> None:
        self._taken = {*model.weights, *_names(model.graph)}

    def fresh(self, stem: str) -> str:
        """``stem`` itself if it is free, else with a number behind it; taken from now on."""
        name, serial = stem, 0
        while name in self._taken:
            serial += 1
            name = f"{stem}_{serial}"
        self._taken.add(name)
        return name


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    yield from (s.values.name for s in graph.sparse_initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)
        for body in subgraphs(node):
            yield from _names(body)
