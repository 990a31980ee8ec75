"""What was done one after another, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..text import percent
from .figures import figure, seconds
from .summary import accuracies


@dataclass(frozen=True)
class Step:
    """From ``start`` on for ``width``, in percent of the whole; ``told`` is what it left."""

    name: str
    took: str
    start: float
    width: float
    told: str = ""


def steps(report: Mapping[str, Any]) -> Iterator[Step]:
    """The steps of a run; before them the search that found these."""
    done = [one for one in report.get("steps") or report.get("passes") or () if isinstance(one, Mapping)]
    timed = [(str(one.get("name") or one.get("pass") or ""), one.get("seconds") or 0.0, _left(one)) for one in done]
    if search := report.get("search_seconds"):
        timed.insert(0, ("search", search, ""))
    whole, at = sum(took for _, took, _ in timed), 0.0
    for name, took, told in timed:
        share = 100 * took / whole if whole else 0.0
        yield Step(name, seconds(took), round(at, 2), round(share, 2), told)
        at += share


def _left(step: Mapping[str, Any]) -> str:
    kept, after = step.get("kept") or {}, step.get("after") or {}
    told = [figure("size_bytes", after["size_bytes"])] if after.get("size_bytes") else []
    told += [
        f"{percent(kept[key], 1)} of the {word}" for key, word in (("size", "file"), ("macs", "MACs")) if key in kept
    ]
    return ", ".join([*told, *(f"{name} {percent(new)}" for name, _, new in accuracies(step))])
