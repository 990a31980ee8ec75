"""All points of a search in one picture: positions in percent of its sides, so that one picture fits any width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...measure.paired import losses
from ...measure.worth import PERCENT, POINTS
from ..text import percent, rated
from .figures import figure, label, milliseconds
from .limits import LIMITED, allowed
from .summary import accuracies

_LOG_FROM = 3.0
"""The ratio of the ends of an axis from which on equal steps are equal factors."""
_FACTORS = ((7, (1, 1.5, 2, 3, 4, 5, 7)), (70, (1, 2, 5)), (1000, (1, 3)), (math.inf, (1,)))
"""By the ratio of the ends of an axis, which multiples of powers of ten get a tick."""
_FEWEST = 0.02
_LEAST_DROP, _MOST_DROPS = 0.06, 2.5
"""The floor of an accuracy axis: so far below the best, or so many times what the chosen point lost."""


@dataclass(frozen=True)
class Mark:
    """A point: ``kind`` is tried, front, chosen or original; ``below`` the floor it is drawn on it. Units: percent."""

    x: float
    y: float
    kind: str
    told: str
    row: int | None = None
    below: bool = False

    @property
    def rank(self) -> int:
        """What is drawn later lies above."""
        return ("tried", "front", "original", "chosen").index(self.kind)


@dataclass(frozen=True)
class Line:
    """A limit: across the whole picture at ``at`` percent."""

    at: float
    text: str
    upright: bool


@dataclass(frozen=True)
class Plot:
    """Quality over one amount. Ticks are positions in percent and texts; ``front`` joins the best points."""

    key: str
    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[Mark]
    front: Sequence[tuple[float, float, float, float]]
    limits: Sequence[Line]
    hidden: int

    @property
    def allowed(self) -> tuple[float, float] | None:
        """Width and height of what is within the limits, in percent, from the upper left."""
        within = {line.upright: line.at for line in self.limits}
        return (within.get(True, 100.0), within.get(False, 100.0)) if within else None


_SAME = 200.0
"""Decibels of outputs that are the original's: an axis up to there would leave the others no room, so these stand on top."""


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, in equal steps or in equal factors."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands, in percent."""
        low, high, x = (math.log(max(v, 1e-12)) if self.log else v for v in (self.low, self.high, value))
        return round(min(100.0, max(0.0, 100 * (x - low) / (high - low))), 2)

    def ticks(self) -> list[float]:
        """Round values, about five."""
        return [t for t in (_round_factors if self.log else _round_steps)(self.low, self.high) if self.inside(t)]

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high * (1 + 1e-9)


@dataclass(frozen=True)
class Quality:
    """The upright axis: accuracy by its first metric, or the SQNR without labels.

    Better is above, so that of a metric whose smaller numbers are better the negative counts. ``share`` tells in percent.
    """

    name: str
    original: float | None
    accuracy: bool
    smaller: bool = False
    share: bool = True

    def of(self, point: Mapping[str, Any]) -> float | None:
        found = (point.get("accuracy") or {}).get(self.name) if self.accuracy else point.get("sqnr_db")
        return self.upward(found) if found is not None and math.isfinite(found) else None

    def upward(self, value: float) -> float:
        return -value if self.smaller else value

    def text(self, value: float) -> str:
        return rated(self.upward(value), self.share) if self.accuracy else f"{value:.1f} dB"

    def tick(self, value: float) -> str:
        shown = self.upward(value)
        return f"{shown:g} dB" if not self.accuracy else f"{100 * shown:g} %" if self.share else f"{shown:g}"

    def floor(self, lost: float) -> float | None:
        """What a loss, in points or in percent, leaves of the original."""
        if self.original is None:
            return None
        return self.original - lost / 100 * (1.0 if self.share else abs(self.original))


def plots(report: Mapping[str, Any]) -> Iterator[Plot]:
    """One for the file, one for the time where it was measured, others where they are limited."""
    points = [one for one in report.get("points") or () if isinstance(one, Mapping)]
    limits = report.get("limits") or {}
    quality = _quality(report, points)
    for name, key in LIMITED:
        placed = [
            (row, x, y, p)
            for row, p in enumerate(points)
            if (x := _left(report, p, name, key)) and (y := quality.of(p)) is not None
        ]
        if len(placed) > 1 and (name in limits or name in ("size", "latency", *report.get("objectives", ()))):
            yield _plot(report, name, key, placed, quality, len(points) - len(placed))


def _quality(report: Mapping[str, Any], points: Iterable[Mapping[str, Any]]) -> Quality:
    for name, old, _ in accuracies(report):
        lost = losses(report)[name]
        smaller, share = lost.better == "smaller", lost.unit == POINTS
        return Quality(name, -old if smaller else old, accuracy=True, smaller=smaller, share=share)
    metric = next((name for point in points for name in point.get("accuracy") or ()), "")
    return Quality(metric or "SQNR of the outputs", None, accuracy=bool(metric))


def _left(report: Mapping[str, Any], point: Mapping[str, Any], name: str, key: str) -> float | None:
    """The fraction of the original's amount that a point has; None where it was not measured."""
    kept = point.get("latency_ratio") if name == "latency" else (point.get("kept") or {}).get(key)
    before = (report.get("before") or {}).get(key)
    if kept is None and before and point.get(key):
        kept = point[key] / before
    return kept if kept and math.isfinite(kept) else None


def _plot(report: Mapping[str, Any], name: str, key: str, placed: list[Any], quality: Quality, hidden: int) -> Plot:
    lost = (report.get("limits") or {}).get("max_drop")
    limit = allowed(report, name, key)
    floor = None if lost is None else quality.floor(lost)
    x = _across([1.0, *([limit] if limit else []), *(one[1] for one in placed)])
    far = [one[2] for one in placed if quality.accuracy or one[2] < _SAME] or [one[2] for one in placed]
    y = _upright(far, quality, floor, next((v for _, _, v, p in placed if p.get("chosen")), None))
    marks = [_mark(x, y, name, quality, *one) for one in placed]
    if quality.original is not None:
        marks.insert(
            0, Mark(x.at(1.0), y.at(quality.original), "original", f"original: {quality.text(quality.original)}")
        )
    lines = [Line(x.at(limit), f"at most {percent(limit, 1)} of the {label(key)}", True)] if limit else []
    lines += (
        [Line(round(100 - y.at(floor), 2), f"at most {lost:g} {POINTS if quality.share else PERCENT} lost", False)]
        if floor is not None and y.inside(floor)
        else []
    )
    flipped = [Mark(m.x, round(100 - m.y, 2), m.kind, m.told, m.row, m.below) for m in marks]
    what = label(key)
    return Plot(
        name,
        f"{quality.name} against {what}",
        f"{what}, as a fraction of the original",
        quality.name,
        [(x.at(t), _short(t)) for t in x.ticks()],
        [(round(100 - y.at(t), 2), quality.tick(t)) for t in y.ticks()],
        flipped,
        list(_front(flipped)),
        lines,
        hidden,
    )


def _mark(
    x: Axis, y: Axis, name: str, quality: Quality, row: int, at: float, value: float, point: Mapping[str, Any]
) -> Mark:
    kind = "chosen" if point.get("chosen") else "front" if point.get("front") else "tried"
    what = [f"{label(name)} {percent(at, 1)}"]
    if name == "latency" and point.get("latency_ms"):
        what = [f"{milliseconds(point['latency_ms'])}, {percent(at, 1)} of the time"]
    if name == "size" and point.get("size_bytes"):
        what = [f"{figure('size_bytes', point['size_bytes'])}, {percent(at, 1)} of the file"]
    told = f"{point.get('name', '')}: {', '.join(what)}, {quality.name} {quality.text(value)}"
    return Mark(x.at(at), y.at(value), kind, told, row, below=value < y.low)


def _front(marks: Sequence[Mark]) -> Iterator[tuple[float, float, float, float]]:
    """From each point that nothing cheaper is better than to the next; ``y`` counts from above."""
    best: list[Mark] = []
    for mark in sorted((m for m in marks if m.row is not None and not m.below), key=lambda m: (m.x, m.y)):
        if not best or mark.y < best[-1].y:
            best.append(mark)
    return ((a.x, a.y, b.x, b.y) for a, b in pairwise(best))


def _across(values: Sequence[float]) -> Axis:
    low, high = max(min(values), 1e-6), max(values)
    if high / low >= _LOG_FROM:
        return Axis(low / 1.15, high * 1.08, log=True)
    room = max(0.06 * (high - low), _FEWEST)
    return Axis(max(0.0, low - room), high + room)


def _upright(values: Sequence[float], quality: Quality, floor: float | None, chosen: float | None) -> Axis:
    """What is far below all that is of interest is drawn on the floor, or else it would press the rest together."""
    top = max([*values, *([quality.original] if quality.original is not None else [])])
    low = min([*values, *([floor] if floor is not None else [])])
    if quality.accuracy and quality.share:
        worst = min(v for v in (chosen, floor, top) if v is not None)
        low = max(low, min(worst, top - max(_LEAST_DROP, _MOST_DROPS * (top - worst))))
    least = 0.5 if not quality.accuracy else 0.002 if quality.share else 0.002 * abs(top) or 1.0
    room = max(0.06 * (top - low), least)
    return Axis(low - room, top + room)


def _round_steps(low: float, high: float) -> Iterator[float]:
    raw = (high - low) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(i * step, 12)


def _round_factors(low: float, high: float) -> Iterator[float]:
    steps = next(steps for reach, steps in _FACTORS if high / low <= reach)
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        yield from (float(f"{step}e{power}") for step in steps)


def _short(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"
