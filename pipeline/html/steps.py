"""What was done one after another, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..text import metric, percent
from .figures import figure, label, seconds

_AMOUNTS = ("size_bytes", "macs")


@dataclass(frozen=True)
class Step:
    """From ``start`` on for ``width``, in percent of the whole; ``told`` is what it left."""

    name: str
    took: str
    start: float
    width: float
    told: str = ""


def steps(report: Mapping[str, Any]) -> Iterator[Step]:
    """The steps of a run; where a search found them, they are part of it."""
    before = report.get("before") or {}
    made = report.get("steps") or ()
    timed = [(step["pass"], step.get("seconds") or 0.0, _left(step, before, report)) for step in made]
    whole, at = sum(took for _, took, _ in timed), 0.0
    for name, took, told in timed:
        share = 100 * took / whole if whole else 0.0
        yield Step(name, seconds(took), round(at, 2), round(share, 2), told)
        at += share


def _left(step: Mapping[str, Any], before: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """What there is after a step, as fractions of what there was before all."""
    keys = [key for key in _AMOUNTS if before.get(key) and key in step]
    left = [f"{label(key)} {figure(key, step[key])} ({percent(step[key] / before[key], 1)})" for key in keys]
    rated = [f"{name} {metric(report, name, value)}" for name, value in (step.get("accuracy") or {}).items()]
    return ", ".join([*left, *rated])
