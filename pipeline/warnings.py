"""What nobody should overlook: losses that no limit speaks of, and data that are too few to tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..measure.data.source import DataSource
from ..measure.paired import Drop, losses, told
from ..measure.worth import POINTS
from .text import count as counted
from .text import rated

LARGE_DROP = 5.0
"""Points of accuracy, or percent of what was."""
_FEW = 16
"""Samples that calibration should have at least."""
_AGREE, _NEAR_DB = 0.8, 5.0
"""Samples on which two models should agree, and decibels of outputs that are no scores of classes."""


def drop_warnings(report: Mapping[str, Any], *, limit: float | None = None, advice: str = "") -> list[str]:
    """Of the accuracy that a report tells. ``limit`` is how many points a pass was allowed to lose."""
    return [*_losses(report, limit, advice), *_doubts(report, limit)]


def blind_warnings(chosen: Iterable[str], *, rated: bool) -> list[str]:
    """Of what passes chose without data. ``rated``: the accuracy is known all the same."""
    named = " and ".join(dict.fromkeys(filter(None, chosen)))
    unknown = "" if rated else "accuracy is not known; "
    return [f"no data: {named} were chosen by weights alone; {unknown}add --data"] if named else []


def sample_warnings(data: DataSource | None) -> Iterator[str]:
    """Of calibration data that hardly suffice, or that no runs of a whole batch can be made of."""
    count, rows = (data.samples, data.batch_size(1)) if data else (None, 1)
    if count is None:
        return
    if count < _FEW:
        yield f"{counted(count, 'sample')} of calibration data are few, and another few may give another result: {_FEW} or more are usual"
    if over := count % rows if rows > 1 else 0:
        told = f"{over} of {counted(count, 'sample')} fill no run of the model, which takes {rows} at once"
        yield f"{told}: they are left out, or repeated where there are no others; give a multiple of {rows}"


def strayed_warnings(report: Mapping[str, Any]) -> list[str]:
    """Without labels, where what a search chose gives other outputs than the original."""
    chosen = next((one for one in report.get("points") or () if one["chosen"]), None)
    if chosen is None or report.get("accuracy"):
        return []
    same, noise, keeps = chosen["agreement"], chosen["sqnr_db"], "keeps such a result back"
    if same is not None and same < _AGREE:
        told = f"on {1 - same:.0%} of the data the highest score is that of another class than the original's"
        return [f'{told}: limit less; --gate "agreement >= 0.95" {keeps}']
    if same is None and noise is not None and noise < _NEAR_DB:
        return [
            f'the outputs hardly resemble the original\'s ({noise:.1f} dB): limit less; --gate "sqnr >= 10dB" {keeps}'
        ]
    return []


def _losses(report: Mapping[str, Any], limit: float | None, advice: str) -> Iterator[str]:
    found = report.get("accuracy") or {}
    lost = losses(report)
    worst = max(lost, key=lambda name: lost[name].points, default="")
    limited = limit is not None or any(one["of_accuracy"] for one in report.get("gates", ()))
    if worst and not limited and lost[worst].points > LARGE_DROP:
        by, rose = lost[worst], lost[worst].better == "smaller"
        before, after = (rated(found[when][worst], by.unit == POINTS, 1) for when in ("before", "after"))
        fell = f"{worst} {'rose' if rose else 'fell'} by {by.points:.1f} {by.unit}, from {before} to {after}"
        gate = 'no gate says how much may go: --gate "drop <= 1.0" keeps such a result back'
        yield "; ".join(filter(None, (f"{fell}, and {gate}", advice)))


def _doubts(report: Mapping[str, Any], limit: float | None) -> Iterator[str]:
    """Whether the samples can tell that a loss is within what was allowed."""
    limits = [limit, *(one["limit"] for one in report.get("gates", ()) if one["unit"] == "points")]
    for name, one in ((report.get("accuracy") or {}).get("drop") or {}).items():
        for most in {m for m in limits if m is not None}:
            if Drop.of(one).enough_for(most):
                yield told(name, Drop.of(one), most)
