"""How the numbers of a metric read: which are better, and what a loss is told in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

POINTS, PERCENT = "points", "%"


@dataclass(frozen=True)
class Worth:
    """``share`` says that a metric is a part of 1, which loses points; of others a loss is a percentage of what was.

    ``exponential`` says that it is e to the power of a mean.
    """

    smaller: bool = False
    share: bool = True
    exponential: bool = False

    @classmethod
    def of(cls, metric: Any) -> Worth:
        """What a metric says of itself: ``smaller_is_better``, ``share``, ``exponential``."""
        given = ("smaller_is_better", False), ("share", True), ("exponential", False)
        return cls(*(bool(getattr(metric, name, otherwise)) for name, otherwise in given))

    @property
    def unit(self) -> str:
        return POINTS if self.share else PERCENT

    @property
    def better(self) -> str:
        return "smaller" if self.smaller else "larger"

    def lost(self, before: float, after: float) -> float:
        """In points, or in percent of ``before``; below 0 for a gain. What is no number has lost all there is."""
        if before == after:
            return 0.0
        if math.isnan(after) or math.isinf(before):
            return math.inf
        gap = after - before if self.smaller else before - after
        return 100 * gap if self.share else 100 * gap / abs(before) if before else math.copysign(math.inf, gap)


SHARE = Worth()
"""As most metrics read."""
