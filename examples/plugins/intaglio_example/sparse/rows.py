"""A pattern: whole rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.graph.layer import Layer
from intaglio.passes.sparsify.patterns import Mask


@dataclass(frozen=True)
class Rows:
    """All weights of an output stay or go together."""

    density: float | None = None

    def unfit(self, layer: Layer) -> str:
        return ""

    def keep(self, scores: np.ndarray, count: int) -> Mask:
        rows = scores.sum(axis=-1)
        least = np.sort(rows, axis=None)[-max(1, round(count / scores.shape[-1]))]
        return np.broadcast_to((rows >= least)[..., None], scores.shape).copy()


rows = Rows()
