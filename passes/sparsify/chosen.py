"""Which layers become sparse, why the others stay as they are, and what is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ..patterns import choose_nodes
from ..precision.result import LayerNote
from .options import SparsifyOptions
from .patterns import Pattern

_NOT_ASKED = "left out by --include or --exclude"
_DENSE = "stays dense to keep the accuracy"


@dataclass(frozen=True)
class Chosen:
    """Layers by their nodes, and reasons against others by their names."""

    layers: Mapping[str, Layer]
    skipped: Mapping[str, str]

    @property
    def first(self) -> dict[str, Layer]:
        """Of each weight the first layer that reads it, by the weight."""
        return {one.weight: one for one in reversed([*self.layers.values()])}


def choose_layers(model: Model, options: SparsifyOptions, pattern: Pattern, dense: frozenset[str]) -> Chosen:
    """Raises UsageError where a name in --include or --exclude stands for nothing."""
    asked, layers = choose_nodes(model, options.include, options.exclude), Layers(model)
    chosen, skipped = dict[str, Layer](), dict[str, str]()
    for one in layers:
        reason = (_DENSE if one.name in dense else "") if asked[one.place] else _NOT_ASKED
        if reason := reason or pattern.unfit(one):
            skipped[one.name] = reason
        else:
            chosen[one.node] = one
    shared = {node: layers.other_readers(one.weight, chosen.keys()) for node, one in chosen.items()}
    for node, others in shared.items():
        if others:
            skipped[chosen.pop(node).name] = f"its weight is also read by {', '.join(others)}, which keep all of it"
    return Chosen(chosen, skipped)


@dataclass(frozen=True)
class SparseNote(LayerNote):
    """What became of one layer: ``kept`` of its ``count`` weights are not zero; in the file they take ``size_bytes``."""

    kept: int = 0
    count: int = 0
    size_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "name": self.name,
            "method": self.method,
            "pattern": self.weights,
            "kept": self.kept,
            "weights": self.count,
            "density": self.kept / self.count if self.count else 1.0,
            "size_bytes": self.size_bytes,
            "output_error": self.error,
        }
