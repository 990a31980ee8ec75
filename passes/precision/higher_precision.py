"""Keep more bits in as few layers as will do, so that accuracy stays within a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...graph.errors import TargetUnreachable
from ...graph.model import Model
from ..base import Accuracy
from .result import Result

Make = Callable[[frozenset[str]], Result]
"""Makes a result in which layers of these names stay in higher precision."""


def keep_higher_precision(
    original: Model,
    make: Make,
    result: Result,
    order: Sequence[str],
    evaluate: Accuracy,
    max_drop: float,
) -> tuple[Result, list[str]]:
    """Spare the first layers of ``order``, as few as keep the loss below ``max_drop`` points. Returns which.

    The number is bisected: sparing more layers is taken to lose less.

    Raises:
        TargetUnreachable: all in higher precision, the loss is still larger.
    """
    before = evaluate(original)

    def lost(one: Result) -> float:
        return evaluate.lost(before, evaluate(one.model))

    if lost(result) <= max_drop:
        return result, []
    best = make(frozenset(order))
    least = lost(best)
    if least > max_drop:
        raise TargetUnreachable(
            f"accuracy cannot stay within {max_drop:g} {evaluate.worth.unit}: {least:.2f} are lost with every layer in higher precision",
            fix="allow more, or choose another scheme",
        )
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        tried = make(frozenset(order[:middle]))
        if lost(tried) <= max_drop:
            best, high = tried, middle
        else:
            low = middle
    return best, list(order[:high])
