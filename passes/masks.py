"""Zeros that are to stay: which weights of a model have a mask, told in its metadata.

The mask itself is where the weight is not zero; ``intaglio.masks`` names the weights, each with the pattern of its zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..graph.index import index_of
from ..graph.model import Model

KEY = "intaglio.masks"
_MASKED = 0.05
"""A weight of which at least so much is exactly zero is taken for one with a mask."""


def masks(model: Model) -> dict[str, str]:
    """By name of the weight the pattern of its zeros, such as ``any`` or ``2:4``."""
    text = next((p.value for p in model.proto.metadata_props if p.key == KEY), "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # somebody else wrote it
        return {}
    return {str(name): str(pattern) for name, pattern in found.items()} if isinstance(found, dict) else {}


def set_masks(model: Model, found: Mapping[str, str]) -> None:
    """Say so, in place."""
    others = [p for p in model.proto.metadata_props if p.key != KEY]
    del model.proto.metadata_props[:]
    model.proto.metadata_props.extend(others)
    if found:
        text = json.dumps(dict(found), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        model.proto.metadata_props.add(key=KEY, value=text)


def mask_of(model: Model, weight: str) -> NDArray[np.bool_] | None:
    """Where a weight may differ from zero; None for everywhere. Shapes: as the weight."""
    return model.weights[weight] != 0 if weight in masks(model) and weight in model.weights else None


def looks_masked(weight: np.ndarray) -> bool:
    """Whether so much of a weight is exactly zero that it is no chance."""
    return bool(weight.ndim > 1 and weight.size and _MASKED <= (weight == 0).mean() < 1)


def filled(before: Model, after: Model) -> list[str]:
    """Weights of a model that say in ``after`` that they have a mask, which was filled, or are there no longer."""
    made = index_of(after).place
    return [name for name in masks(after) if name not in made and _filled(before, after, name)]


def _filled(before: Model, after: Model, name: str) -> bool:
    if name not in after.weights:
        return True
    old, new = mask_of(before, name), after.weights[name]
    return old is not None and old.shape == new.shape and bool((new[~old] != 0).any())
