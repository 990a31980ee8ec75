"""What binarization saves in theory, and scores over several tasks, as BiBench defines them.

Source: Qin et al., "BiBench: Benchmarking and Analyzing Network Binarization", ICML 2023, arXiv:2301.11233.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..graph.cost import Cost


@dataclass(frozen=True)
class Efficiency:
    """How many times less a model computes and stores than another.

    ``speedup`` is in MACs, those of bits counted as a 64th: it promises no time. ``storage`` is in bytes of weights,
    scales and masks among them.
    """

    speedup: float
    storage: float

    @property
    def overall(self) -> float:
        """Quadratic mean of both."""
        return quadratic_mean((self.speedup, self.storage))

    def as_dict(self) -> dict[str, float]:
        return {"speedup": self.speedup, "storage": self.storage, "overall": self.overall}


def efficiency(before: Cost, after: Cost) -> Efficiency:
    """Compare a model with the one it was made of. Infinite where nothing is left."""
    return Efficiency(
        _ratio(before.equivalent_macs, after.equivalent_macs), _ratio(before.weight_bytes, after.weight_bytes)
    )


@dataclass(frozen=True)
class Scores:
    """Relative accuracy by task, in percent of the original's, and ``overall``, the quadratic mean over tasks."""

    relative: Mapping[str, float]

    @property
    def overall(self) -> float:
        return quadratic_mean(self.relative.values())

    def as_dict(self) -> dict[str, object]:
        return {"relative": dict(self.relative), "overall": self.overall}


def scores(before: Mapping[str, float], after: Mapping[str, float]) -> Scores:
    """Relative accuracies of several tasks: datasets, architectures, or corruptions of one dataset.

    Raises:
        ValueError: the two do not tell of the same tasks, or an original scores nothing.
    """
    if before.keys() != after.keys() or not before:
        raise ValueError(f"tasks {sorted(before)} and {sorted(after)} differ, or there is none")
    if min(before.values()) <= 0:
        raise ValueError("an original that scores nothing cannot be compared with")
    return Scores({task: 100 * after[task] / before[task] for task in before})


def quadratic_mean(values: Iterable[float]) -> float:
    """Root of the mean of squares: a large value weighs more than in an arithmetic mean.

    >>> round(quadratic_mean([3.0, 4.0]), 3)
    3.536
    """
    squares = [value * value for value in values]
    return math.sqrt(math.fsum(squares) / len(squares))


def _ratio(before: float, after: float) -> float:
    return before / after if after else math.inf if before else 1.0
