"""The smallest model that loses no more accuracy than was allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...graph.errors import TargetUnreachable, UsageError
from ..base import Accuracy, Context

T = TypeVar("T")
_ROUNDS = 6


def accuracy_of(context: Context) -> Accuracy:
    """How accuracy is measured. Raises UsageError where it cannot be."""
    found = context.accuracy()
    if found is None:
        raise UsageError(
            "a largest drop of accuracy needs labelled data to measure it on", fix="add --eval-data SOURCE"
        )
    return found


def smallest(
    make: Callable[[float], T], lost: Callable[[T], float], limit: float, lowest: float
) -> tuple[T | None, str]:
    """Bisect the fraction of the MACs that is kept: the last made within ``limit``, and a note of what was tried.

    A smaller model is taken to lose more. ``lowest`` is the least that can be kept. Units: points of accuracy.
    """
    low, high = lowest, 1.0
    best, tried = None, []
    for _ in range(_ROUNDS):
        keep = (low + high) / 2
        try:
            one = make(keep)
        except TargetUnreachable:
            low = keep
            continue
        drop = lost(one)
        tried.append(f"{keep:.3f}: {-drop:+.2f}")
        if drop <= limit:
            high, best = keep, one
        else:
            low = keep
    return best, f"accuracy by fraction of the MACs, in points: {', '.join(tried)}"
