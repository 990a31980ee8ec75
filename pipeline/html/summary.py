"""What stands first: the verdict in a sentence, and a card for each amount that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...measure.paired import CONFIDENCE, Drop, losses
from ..formats.rows import said
from ..text import count, human, metric, percent
from .figures import NONE, label, milliseconds
from .limits import exceeded

_CARDS = (("size_bytes", "B"), ("macs", ""), ("bops", ""), ("params", ""))
_NO_CHANGE = 0.005


@dataclass(frozen=True)
class Verdict:
    """``state`` is good, bad, warn or plain; ``told`` are sentences under the headline."""

    state: str
    headline: str
    told: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """An amount after, what it was before, and the fraction that is left, where that makes a bar."""

    title: str
    after: str
    before: str
    change: str = ""
    left: float | None = None
    more: str = ""


def verdict(report: Mapping[str, Any]) -> Verdict:
    """What to know if nothing else is read."""
    gates = report.get("gates") or ()
    missed = [gate for gate in gates if not gate.get("passed")]
    chosen = next((point for point in report.get("points") or () if point.get("chosen")), None)
    what, _, more = _outcome(report).partition(": ") if said(report) else (_outcome(report), "", "")
    if missed:
        return Verdict("bad", f"{len(missed)} of {count(len(gates), 'gate')} missed", [what])
    if error := report.get("error"):
        return Verdict("bad", error["what"], [error[key] for key in ("why", "fix") if error.get(key)])
    if report.get("changed") is False:
        return Verdict("plain", "Nothing was changed")
    if chosen and not chosen.get("meets", True):
        return Verdict("bad", "The limits are not met: this is the nearest that was found", [what])
    told = [f"All {len(gates)} gates passed." if len(gates) > 1 else "The gate passed."] if gates else []
    over = list(exceeded(report))
    told += [more] if more else []
    told += ["Within all limits that were asked for."] if chosen and report.get("limits") and not over else []
    if warnings := [*over, *(report.get("warnings") or ())]:
        return Verdict("warn", what, [*told, *warnings])
    return Verdict("good" if gates or told != [more] * bool(more) else "plain", what, told)


def _outcome(report: Mapping[str, Any]) -> str:
    if outcome := said(report):
        return outcome if "metrics" in report else outcome[:1].upper() + outcome[1:]
    parts = [*_smaller(report), *_faster(report)]
    for name, _, new in list(accuracies(report))[:1]:
        parts.append(f"{name} {metric(report, name, new)} ({losses(report)[name].change})")
    return ", ".join(parts)[:1].upper() + ", ".join(parts)[1:] if parts else "Done"


def _smaller(report: Mapping[str, Any]) -> Iterator[str]:
    old, new = (report.get(side, {}).get("size_bytes") for side in ("before", "after"))
    if old and new:
        if abs(old - new) <= _NO_CHANGE * old:
            yield "as large as before"
        else:
            yield f"{old / new:.1f} times smaller" if new < old else f"{new / old:.2f} times as large"


def _faster(report: Mapping[str, Any]) -> Iterator[str]:
    if times := report.get("latency_ms"):
        ratio = times["speedup"]
        words = {"faster": f"{ratio:.1f} times as fast", "slower": f"slower, {1 / ratio:.2f} times the time"}
        yield words.get(times.get("verdict", ""), "as fast as before")


def accuracies(report: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Each metric with what it was and what it is."""
    found = report.get("accuracy") or {}
    for name, old in (found.get("before") or {}).items():
        if old is not None and (new := found.get("after", {}).get(name)) is not None:
            yield name, old, new


def cards(report: Mapping[str, Any]) -> Iterator[Card]:
    """In the order: file, time, MACs, parameters, accuracy."""
    amounts = list(_amounts(report))
    yield from amounts[:1]
    yield from _time(report)
    yield from amounts[1:]
    yield from _accuracy(report)


def _amounts(report: Mapping[str, Any]) -> Iterator[Card]:
    before, after = report.get("before") or {}, report.get("after") or {}
    for key, unit in _CARDS:
        if key in before or key in after:
            old, new = before.get(key, 0), after.get(key, 0)
            left = new / old if old else None
            yield Card(label(key), human(new, unit), human(old, unit), _left(left), left)


def _time(report: Mapping[str, Any]) -> Iterator[Card]:
    if times := report.get("latency_ms"):
        left = 1 / times["speedup"]
        threads = times.get("threads")
        of = f"one sample, {count(threads, 'thread')}" if threads else ""
        now, was = milliseconds(times["after"]), milliseconds(times["before"])
        yield Card(label("latency_ms"), now, was, _left(left), left, of)


def _accuracy(report: Mapping[str, Any]) -> Iterator[Card]:
    lost = losses(report)
    for name, old, new in accuracies(report):
        before, after = (metric(report, name, value) for value in (old, new))
        yield Card(name, after, before, lost[name].change, None, interval(lost[name]))


def interval(drop: Drop) -> str:
    """Between which two the change lies."""
    on = f", {drop.samples:,} samples" if drop.samples else ""
    return f"{percent(CONFIDENCE, 0)} sure: {drop.between}{on}" if drop.between else ""


def _left(left: float | None) -> str:
    return NONE if left is None else f"{percent(left, 1)} left"
