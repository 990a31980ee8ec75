"""An equal model that layers can be fitted in one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.traits import Trait, has
from ..simplify import Names, fold_batch_norm, with_biases


def ready(model: Model, *, biases: bool) -> tuple[Model, list[str], frozenset[str]]:
    """BatchNormalization folded where it can be; with ``biases`` every layer has one of its own to take up means.

    Returns the model, notes for the user, and the biases that were added.
    """
    folded, count = fold_batch_norm(model)
    notes = [f"{count} BatchNormalization nodes folded into the layers before them"] if count else []
    if not biases:
        return folded, notes, frozenset()
    whole = _own_biases(with_biases(folded))
    return whole, notes, frozenset(whole.weights.keys() - folded.weights.keys())


def without_idle_biases(model: Model, added: frozenset[str]) -> Model:
    """A copy without those of the added biases that nothing was put into."""
    changed = model.copy()
    for node in changed.graph.node:
        if len(node.input) == 3 and node.input[2] in added and not np.any(model.weights[node.input[2]]):
            changed.weights.pop(node.input[2], None)
            del node.input[2:]
    return changed


def _own_biases(model: Model) -> Model:
    """A copy in which no two convolutions or Gemm share a bias: fitted layers need different ones."""
    changed, names = model.copy(), Names(model)
    readers = Counter(index_of(changed).uses)
    for node in changed.graph.node:
        if not has(node, Trait.LAYER) or len(node.input) < 3 or readers[node.input[2]] < 2:
            continue
        name = node.input[2]
        if name in changed.weights:
            readers[name] -= 1
            node.input[2] = names.fresh(f"{name}_own")
            changed.weights[node.input[2]] = changed.weights[name]
    return changed
