"""The space narrowed to networks whose arithmetic and parameters are in a good proportion."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from ..objectives import ranks
from ..predictors.ridge import ridge
from ..record import Record, Told
from .linas import features
from .strategy import STRATEGIES, Proposal, spread


class Bands(BaseModel):
    """Options of ``bands``."""

    population: int = Field(default=16, ge=4, le=10000, description="random trials before the space is narrowed")
    bands: int = Field(default=4, ge=2, le=100, description="bands of as many trials each")


@STRATEGIES.register("bands", options=Bands)
def bands(told: Told, count: int, options: Bands) -> list[Proposal]:
    """Random trials, then only those of the band of MACs to parameters that did best.

    Source: He et al., "Network Pruning Spaces", 2023, arXiv:2304.09453: the best networks of a budget share the ratio of
    FLOPs to parameters.
    Differs: best is the mean rank among all trials; the ratio of what was not tried yet is predicted.
    """
    usable = told.usable
    if len(told.records) < options.population or len(usable) < 2 * options.bands:
        return spread(told, count)
    ratios = np.array([_ratio(one) for one in usable])
    edges = np.quantile(ratios, np.linspace(0, 1, options.bands + 1))
    rank, place = ranks(told.costs(usable)), np.clip(np.searchsorted(edges, ratios) - 1, 0, options.bands - 1)
    means = [rank[place == k].mean() if (place == k).any() else np.inf for k in range(options.bands)]
    low, high = edges[int(np.argmin(means)) :][:2]
    rng = told.rng
    drawn = rng.random((64 * count, len(told.space.parameters)))
    found = ridge(features(told.space, told.places(usable)), ratios)(features(told.space, drawn))
    far = np.maximum(np.maximum(low - found, found - high), 0)
    return [Proposal(told.space.values(drawn[k])) for k in np.argsort(far, kind="stable")[:count]]


def _ratio(one: Record) -> float:
    kept = one.figures["kept"]
    return float(np.log(max(kept["macs"], 1e-9) / max(kept["params"], 1e-9)))
