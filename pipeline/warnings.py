"""What nobody should overlook: losses that no limit speaks of, and data that are too few to tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..measure.paired import Drop, told
from ..passes.base import Pass
from .report import Report

LARGE_DROP = 5.0
"""Points of accuracy."""


def warnings_of(report: Report, passes: Sequence[Pass], *, gated: bool) -> list[str]:
    """Of the accuracy. ``gated`` says that a gate limits it."""
    limit = next((drop for one in passes if (drop := one.allowed_drop) is not None), None)
    return [*_losses(report, gated or limit is not None), *_doubts(report, limit)]


def _losses(report: Report, limited: bool) -> Iterator[str]:
    found = report.accuracy or {}
    before, after = found.get("before", {}), found.get("after", {})
    lost = {name: 100 * (old - after[name]) for name, old in before.items()}
    worst = max(lost, key=lambda name: lost[name], default="")
    if worst and not limited and lost[worst] > LARGE_DROP:
        advice = report.change.advice.get("collapsed", "")
        told = f"{worst} fell by {lost[worst]:.1f} points, from {before[worst]:.1%} to {after[worst]:.1%}, and no gate says how much may go"
        yield "; ".join(filter(None, (told, '--gate "drop <= 1.0" keeps such a result back', advice)))


def _doubts(report: Report, limit: float | None) -> Iterator[str]:
    """Whether the samples can tell that a loss is within what was allowed."""
    for name, one in ((report.accuracy or {}).get("drop") or {}).items():
        drop = Drop.of(one)
        limits = [limit, *(g["limit"] for g in report.gates if g["unit"] == "points")]
        for most in (m for m in limits if m is not None and drop.enough_for(m)):
            yield told(name, drop, most)
