"""A repair: filters that lose inputs get back the length they had."""

from __future__ import annotations

import numpy as np

from intaglio.graph.coupling import Removal
from intaglio.passes import Context
from intaglio.passes.prune import REPAIRS, Repaired


@REPAIRS.register("lengths")
def lengths(removal: Removal, context: Context) -> Repaired:
    """Scale filters that lose inputs to the length they had."""
    changed = {}
    for name, weight in removal.coupling.model.weights.items():
        stays = removal.tensor(name).get(1)
        if weight.ndim == 4 and stays is not None:
            before, after = (np.linalg.norm(w.reshape(len(w), -1), axis=1) for w in (weight, weight[:, stays]))
            changed[name] = weight * (before / np.maximum(after, 1e-12)).reshape(-1, 1, 1, 1)
    return Repaired(changed, {"scaled": len(changed)})
