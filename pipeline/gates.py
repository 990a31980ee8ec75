"""Limits that a result must keep, or nothing is written."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.errors import GateFailed, IntaglioError, UsageError
from .report import Report

Gate = Callable[[Report], IntaglioError | None]
"""Says why a result must not be written; None where it may."""


def accuracy_drop(points: float) -> Gate:
    """At most so many points of accuracy are lost, by each metric."""

    def check(report: Report) -> IntaglioError | None:
        if report.accuracy is None:
            return UsageError("a limit on accuracy needs labelled data", fix="add --eval-data SOURCE")
        before, after = report.accuracy["before"], report.accuracy["after"]
        lost = {name: 100 * (old - after[name]) for name, old in before.items()}
        worst = max(lost, key=lambda name: lost[name])
        if lost[worst] <= points:
            return None
        return GateFailed(
            f"{worst} fell by {lost[worst]:.2f} points, {points:g} were allowed; nothing was written",
            why=f"{worst} is {after[worst]:.2%}, it was {before[worst]:.2%}",
            fix="ask for less, or allow more",
        )

    return check
