"""Limits of a search, as fractions of the original, and whether what was measured at the end keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...measure.paired import losses
from ..text import percent
from .figures import label

LIMITED = (("size", "size_bytes"), ("latency", "latency_ms"), ("macs", "macs"), ("params", "params"))
"""What can be limited, and the key that says how much of it there is."""
Told = Mapping[str, Any]


def allowed(report: Told, name: str, key: str) -> float | None:
    """The fraction of the original's amount that was asked for; None without such a limit."""
    limit = (report.get("limits") or {}).get(name)
    if not limit or not limit["absolute"]:
        return limit["value"] if limit else None
    whole = (report.get("latency_ms") or {}).get("before") if key == "latency_ms" else _amount(report, "before", key)
    return limit["value"] / whole if whole else None


def exceeded(report: Told) -> Iterator[str]:
    """What the result itself has more of than a search was to leave: times of two measurements differ."""
    for name, key in LIMITED:
        most, now = allowed(report, name, key), _left(report, key)
        if most is not None and now is not None and now > most:
            yield f"{label(key)}: {percent(now, 1)} is left, at most {percent(most, 1)} was asked for"
    lost = max((one.points for one in losses(report).values()), default=0.0)
    most = (report.get("limits") or {}).get("max_drop")
    if most is not None and lost > most + 1e-9:
        yield f"accuracy: {lost:.2f} points are lost, at most {most:g} were asked for"


def _left(report: Told, key: str) -> float | None:
    if key == "latency_ms":
        times = report.get("latency_ms")
        return 1 / times["speedup"] if times else None
    before, after = (_amount(report, side, key) for side in ("before", "after"))
    return after / before if before and after is not None else None


def _amount(report: Told, side: str, key: str) -> float | None:
    return (report.get(side) or {}).get(key)
