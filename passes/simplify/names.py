"""Names for new tensors."""

from __future__ import annotations

from collections import Counter

from ...graph.model import Model
from ...graph.nodes import tensor_names


class Names:
    """The names that a model's nodes and its tensors, in subgraphs too, have, and new ones that nobody has."""

    def __init__(self, model: Model) -> None:
        self._taken = {*model.weights, *tensor_names(model.graph), *(n.name for n in model.graph.node)}
        self._serial = Counter[str]()

    def fresh(self, stem: str) -> str:
        """``stem`` itself if it is free, else with a number behind it; taken from now on."""
        name = f"{stem}_{self._serial[stem]}" if stem in self._serial else stem
        while name in self._taken:
            self._serial[stem] += 1
            name = f"{stem}_{self._serial[stem]}"
        self._taken.add(name)
        return name
