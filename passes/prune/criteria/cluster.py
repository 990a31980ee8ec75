"""Filters that say the same: of two that point in nearly one direction one can go, for the other can stand for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field

from ....graph.model import Model
from ...simplify import fold_batch_norm
from ..copies import Copies, by_channel
from ..weights import GroupWeights, Scores
from .criteria import CRITERIA, Scored, criterion


@dataclass(frozen=True, kw_only=True)
class Clusters(Scored):
    """Looks at layers and BatchNormalization behind them together."""

    def ready(self, model: Model) -> tuple[Model, list[str]]:
        folded = fold_batch_norm(model)[0]
        return folded, []


def cluster(group: GroupWeights) -> Scores:
    """How near another channel's filter is in direction: copies up to a positive factor go first, others standing for them.

    Source: agglomerative clustering of filters by cosine distance, one representative left of each cluster. Differs: the
    distance at which a channel joins says when it goes, no threshold rises; see the repair ``merge``.
    """
    found = Copies.of(group)
    if found is None:
        return np.full(group.channels, 2.0)
    order, when = found.order()
    scores = np.empty(group.channels)
    scores[order] = np.where(np.isfinite(when), when, 2.0)
    return scores


CRITERIA.register("cluster")(Clusters(score=cluster, comparable=True, repair="merge"))


class Spline(BaseModel):
    """Options of ``spline``."""

    rho: float = Field(default=0.001, ge=0, description="weight of the difference of biases")


@criterion("spline", options=Spline)
def spline(group: GroupWeights, options: Spline) -> Scores:
    """Hyperplanes near another's, in angle and in offset, are redundant partitions of the input and go first.

    Source: You et al., "Max-Affine Spline Insights Into Deep Network Pruning", TMLR 2022, arXiv:2101.02338.
    """
    planes = [rows for m in group.having("out") if (rows := by_channel(m, m.rows)) is not None]
    if not planes:
        return np.zeros(group.channels)
    table = np.concatenate([one.reshape(group.channels, -1) for one in planes], axis=1)
    size = np.linalg.norm(table, axis=1)
    unit = table / np.where(size > 0, size, 1.0)[:, None]
    apart = 1 - np.abs(unit @ unit.T)
    for member in group.having("shift"):
        offsets = by_channel(member, member.rows)
        if offsets is not None:
            flat = offsets.reshape(group.channels, -1)
            apart = apart + options.rho * np.abs(flat[:, None] - flat[None]).sum(axis=-1)
    order, when = Copies(np.maximum(apart, 0.0), apart).order()
    scores = np.empty(group.channels)
    scores[order] = np.where(np.isfinite(when), when, 2.0)
    return scores
