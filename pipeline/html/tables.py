"""Tables of whatever a report tells: lists of layers, of groups, of reasons. Nothing here knows of a certain pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from ...measure.paired import Drop, losses
from ...measure.worth import POINTS
from .figures import NONE, figure, label, table_title

FIRST = 20
"""Rows that are shown at once; the others are folded away."""
MOST = 750
"""Rows of one table; the report as JSON has all."""
_LONG = 30
_PAIR = ("before", "after")
_BARS = {"sqnr_db", "seconds", "bytes", "macs", "ms", "bits", "removed"}
"""Figures that start at nothing, so that their length says something."""
_TOLD_ELSEWHERE = set(
    [
        "accuracy",
        "after",
        "before",
        "changed",
        "command",
        "environment",
        "error",
        "gates",
        "kept",
        "latency_ms",
        "limits",
        "model",
        "name",
        "notes",
        "out",
        "passed",
        "plugins",
        "points",
        "recipe",
        "schema",
        "search_seconds",
        "seconds",
        "steps",
        "target",
        "version",
        "warnings",
    ]
)
_OUR_KEYS = {"bibench", "latency_target", "lossless", "runtime", "verified"}
"""Mappings whose keys are words of reports; those of others are names, which say nothing of what their values are."""
Row = Mapping[str, Any]
_FIRST_TABLES = (
    "metrics",
    "models",
    "passes",
    "by_layer",
    "groups",
    "branches",
    "chosen_layers",
    "layers",
    "skipped",
    "higher_precision",
    "worst",
)


@dataclass(frozen=True)
class Cell:
    """``share`` is the length of a bar, a fraction of the longest; ``was`` that of a second one behind it."""

    text: str
    share: float | None = None
    was: float | None = None


@dataclass(frozen=True)
class Column:
    """``kind`` is ``r`` of numbers, which stand to the right, ``long`` of sentences."""

    title: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """``first`` are the rows that are shown, ``rest`` those behind ``rest_title``; ``left_out`` are not even there."""

    title: str
    columns: Sequence[Column]
    first: Sequence[Sequence[Cell]]
    rest: Sequence[Sequence[Cell]] = ()
    rest_title: str = ""
    left_out: int = 0
    folded: bool = False
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """What one pass tells: short facts, and tables."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = field(default_factory=list)


def parts(report: Mapping[str, Any]) -> Iterator[Part]:
    """The report itself, and each pass of several."""
    steps = enumerate(report.get("steps") or (), 1)
    named = [(f"{number}. {step['pass']}", step.get("details") or {}) for number, step in steps]
    for title, told in (("", report), *named):
        part = Part(title, list(_facts(told)), list(_tables(told)))
        if part.facts or part.tables:
            yield part


def _facts(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in told.items():
        flat = isinstance(value, (str, Real)) or (
            isinstance(value, Sequence) and value and not any(isinstance(one, Mapping) for one in value)
        )
        if key not in _TOLD_ELSEWHERE and flat and key not in _FIRST_TABLES:
            yield label(key), figure(key, value)


def _tables(told: Mapping[str, Any]) -> Iterator[Table]:
    keys = [*(key for key in _FIRST_TABLES if key in told), *(key for key in told if key not in _FIRST_TABLES)]
    for key in keys:
        value = told[key]
        if key in _TOLD_ELSEWHERE or not value or isinstance(value, (str, Real)):
            continue
        rows = _listed(key, value)
        if rows:
            yield table(table_title(key), rows, folded=key not in _FIRST_TABLES)


def _listed(key: str, value: Any) -> list[Mapping[str, Any]]:
    """A list of rows, each a mapping, of lists and mappings of any kind."""
    if isinstance(value, Mapping):
        rows = [one for one in value.values() if isinstance(one, Mapping)]
        if len(rows) == len(value) and all(set(one) == set(rows[0]) != set(_PAIR) for one in rows):
            return [{"name": name, **one} for name, one in value.items()]
        ours, head = key in _OUR_KEYS, "why" if key == "skipped" else "value"
        stands = [(name, one) for name, one in value.items() if _stands(one)]
        return [
            {"name": label(name) if ours else name, head: _said(name if ours else key, one)} for name, one in stands
        ]
    named = key in _FIRST_TABLES
    return [one if isinstance(one, Mapping) else {"name": one} for one in value if named or isinstance(one, Mapping)]


def _said(key: str, value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == set(_PAIR):
        return " → ".join(figure(key, value[side]) for side in _PAIR)
    return figure(key, value)


def table(title: str, rows: Sequence[Row], *, folded: bool = False) -> Table:
    """Rows as cells, those of many that say most first; columns in which nothing stands are left out."""
    columns, cells = _cells(rows)
    by, words = _telling(rows) if len(rows) > FIRST else (None, "")
    if by is None:
        many = len(cells) > FIRST
        rest = cells[FIRST:MOST] if many else ()
        return Table(
            title, columns, cells[:FIRST], rest, f"{len(cells) - FIRST:,} more", max(0, len(cells) - MOST), folded
        )
    order = sorted(range(len(rows)), key=lambda i: by(rows[i]))[:FIRST]
    head = f"{title}: the {FIRST} of {len(rows):,} {words}"
    every = f"all {len(rows):,}, in the order of the model"
    return Table(head, columns, [cells[i] for i in order], cells[:MOST], every, max(0, len(cells) - MOST), folded)


def _telling(rows: Sequence[Row]) -> tuple[Callable[[Row], float] | None, str]:
    """What orders rows by how much they say, the most first."""
    both = next((key for key in rows[0] if _before_after([row.get(key) for row in rows])), None)
    if both is not None:
        return lambda row: _less(row.get(both) or {}), f"that lost most {label(both)}"
    if _paired(rows):
        return _less, "that lost most"
    if all(_is_number(row.get("sqnr_db")) for row in rows):
        return lambda row: row["sqnr_db"], "with the lowest SQNR"
    return None, ""


def _less(row: Row) -> float:
    return (row.get("after") or 0) - (row.get("before") or 0)


def _paired(rows: Sequence[Row]) -> bool:
    return all(_is_number(row.get(key)) for row in rows for key in _PAIR)


def _cells(rows: Sequence[Row]) -> tuple[list[Column], list[Sequence[Cell]]]:
    keys = [
        key for key in dict.fromkeys(key for row in rows for key in row) if any(_stands(row.get(key)) for row in rows)
    ]
    columns, cells = [], []
    for key in keys:
        values = [row.get(key) for row in rows]
        if key in _PAIR and _paired(rows):
            if key == "before":
                columns.append(Column("before → after", "r"))
                cells.append(_pairs(rows))
            continue
        columns.append(Column(label(key), _kind(values) if columns else ""))
        cells.append(list(_column(key, values)))
    return columns, list(zip(*cells, strict=True))


def _kind(values: Sequence[Any]) -> str:
    if all(_is_number(one) for one in values if _stands(one)) or _before_after(values):
        return "r"
    return "long" if any(isinstance(one, str) and len(one) > _LONG for one in values) else ""


def _column(key: str, values: Sequence[Any]) -> Iterator[Cell]:
    if _before_after(values):
        yield from _pairs([one or {} for one in values], key)
        return
    most = max((v for v in values if _is_number(v)), default=0) if key in _BARS else 0
    for value in values:
        share = max(0.0, value / most) if most > 0 and _is_number(value) else None
        yield Cell("" if not _stands(value) else figure(key, value), share)


def _pairs(rows: Sequence[Mapping[str, Any]], key: str = "") -> list[Cell]:
    """What there was and what is left, against the most that any row had."""
    most = max((row.get(side) or 0 for row in rows for side in _PAIR), default=0) or 1
    cells = []
    for row in rows:
        old, new = (row.get(side) for side in _PAIR)
        text = figure(key, new) if old == new else f"{figure(key, old)} → {figure(key, new)}"
        cells.append(Cell(text, (new or 0) / most, (old or 0) / most) if row else Cell(NONE))
    return cells


def _before_after(values: Iterable[Any]) -> bool:
    found = [one for one in values if one is not None]
    return bool(found) and all(isinstance(one, Mapping) and set(one) == set(_PAIR) for one in found)


def _stands(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, (list, tuple, dict)) and not value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def points_table(report: Mapping[str, Any]) -> Table | None:
    """Every point of a search: the chosen one first, then the best ones, then the others as they were tried."""
    points = [(row, one) for row, one in enumerate(report.get("points") or ()) if isinstance(one, Mapping)]
    if not points:
        return None
    points.sort(key=lambda p: (not p[1].get("chosen"), not p[1].get("front")))
    lost = losses(report)
    columns, cells = _cells([_point(one, lost) for _, one in points])
    shown = max(FIRST, sum(bool(one.get("chosen") or one.get("front")) for _, one in points))
    ids, rest = [f"point-{row}" for row, _ in points], f"{len(points) - shown:,} more"
    return Table(
        "Every point that was tried",
        columns,
        cells[:shown],
        cells[shown:MOST],
        rest,
        max(0, len(points) - MOST),
        ids=ids,
    )


def _point(point: Mapping[str, Any], lost: Mapping[str, Drop]) -> dict[str, Any]:
    standing = "★ chosen" if point.get("chosen") else "front" if point.get("front") else ""
    kept = point.get("kept") or {}
    return {
        "name": point.get("name"),
        "standing": standing,
        "within limits": point.get("meets"),
        "size_bytes": point.get("size_bytes") or None,
        "size_ratio": kept.get("size_bytes"),
        "latency_ms": point.get("latency_ms"),
        "latency_ratio": point.get("latency_ratio"),
        "macs_ratio": kept.get("macs"),
        **{
            name if one and one.unit != POINTS else f"{name}_accuracy": value
            for name, value in (point.get("accuracy") or {}).items()
            for one in [lost.get(name)]
        },
        "sqnr_db": point.get("sqnr_db"),
        "agreement": None if point.get("accuracy") else point.get("agreement"),
        "took_seconds": point.get("seconds") or None,
        "told": point.get("told"),
    }
