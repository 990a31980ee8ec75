"""Merging: what reads a removed channel reads the kept one that is most like it."""

from __future__ import annotations

import numpy as np

from ....graph.coupling import Removal
from ...base import Context
from ..copies import Copies, by_channel
from ..weights import GroupWeights, Weights
from .repair import REPAIRS, Repaired


@REPAIRS.register("merge")
def merge(removal: Removal, context: Context) -> Repaired:
    """Weights of a removed channel go to the kept one whose filter points in nearly the same direction, times the factor
    between them. Exact for copies behind a rectifier. Needs no data.

    Source: dynamical clustering of filters by cosine distance, one representative of each cluster standing for all.
    """
    weights, coupling = Weights(removal.coupling), removal.coupling
    changed: dict[str, np.ndarray] = {}
    merged = 0
    for number, group in enumerate(coupling.groups):
        gone = removal.removed[group.atoms]
        if not gone.any() or gone.all():
            continue
        whole = weights.group(number, Removal(coupling, coupling.nothing()), context.seed)
        found = Copies.of(whole)
        if found is not None:
            merged += _merge(whole, found, gone, coupling.model.weights, changed)
    return Repaired(changed, {"merged": merged})


def _merge(
    group: GroupWeights,
    found: Copies,
    gone: np.ndarray,
    original: dict[str, np.ndarray],
    changed: dict[str, np.ndarray],
) -> int:
    """Give what reads the channels that go to those that stay; how many were given."""
    (kept,), (lost,) = np.nonzero(~gone), np.nonzero(gone)
    nearest = kept[np.argmin(found.distance[np.ix_(lost, kept)], axis=1)]
    factor = found.factor[lost, nearest]
    for member in group.having("in"):
        weight = np.array(changed.get(member.tensor, original[member.tensor]))
        places = by_channel(member, member.entries[:, None])
        if places is None:
            continue
        moved = np.moveaxis(weight, member.axis, 0)
        index = places[:, :, 0].astype(np.intp)
        for channel, stands, times in zip(lost, nearest, factor, strict=True):
            moved[index[stands]] += (times * moved[index[channel]]).astype(weight.dtype)
        changed[member.tensor] = weight
    return int((factor > 0).sum())
