"""A pass: weights that are tiny beside the largest of their tensor become zero."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from intaglio.graph.model import Model
from intaglio.passes import PASSES, Change, Context, Pass
from intaglio.passes.options import option


@PASSES.register("zero-tiny")
class ZeroTiny(Pass):
    """Set weights below a fraction of their tensor's largest to zero.

    Nothing gets smaller or faster by this alone: zeros merely compress well.
    """

    name: ClassVar[str] = "zero-tiny"
    below: float = option(1e-3, "Fraction of the largest weight that counts as tiny.", "method", gt=0, lt=1)

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Work on a copy; weights that do not change stay shared with the original."""
        changed = model.copy()
        zeroed = 0
        for name, weight in model.weights.items():
            if weight.dtype != np.float32 or weight.ndim < 2:
                continue
            tiny = (np.abs(weight) < self.below * np.abs(weight).max(initial=0.0)) & (weight != 0)
            if tiny.any():
                changed.weights[name] = np.where(tiny, np.float32(0), weight)
                zeroed += int(tiny.sum())
        return Change(model, changed if zeroed else model, details={"zeroed": zeroed})
