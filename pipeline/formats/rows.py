"""Rows of the tables that every form of a report has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...measure.paired import losses
from ..gates import shown
from ..text import human, metric, number, percent, rated

Told = Mapping[str, Any]
AMOUNTS = (
    ("MACs", "macs", ""),
    ("MACs of bits", "bops", ""),
    ("parameters", "params", ""),
    ("file", "size_bytes", "B"),
)


def amounts(report: Told) -> Iterator[tuple[str, str, str, str]]:
    """What was measured of both models, and what is left of it."""
    before, after = report.get("before", {}), report.get("after", {})
    for label, key, unit in AMOUNTS:
        if key in before or key in after:
            old, new = before.get(key, 0), after.get(key, 0)
            kept = percent(new / old if old else None if new else 1.0, 1)
            yield label, human(old, unit), human(new, unit), kept
    if latency := report.get("latency_ms"):
        ratio = 1 / latency["speedup"]
        yield "latency", f"{latency['before']:.3g} ms", f"{latency['after']:.3g} ms", percent(ratio, 1)
    accuracy = report.get("accuracy") or {}
    for name, lost in losses(report).items():
        old, new = (metric(report, name, accuracy[when][name]) for when in ("before", "after"))
        yield name, old, new, lost.change


def lossless(report: Told) -> str:
    """What reading the file alone gained, in one line; nothing where it changed nothing."""
    found = report.get("lossless")
    if not found or not found["notes"]:
        return ""
    size, nodes, times = found["size_bytes"], found["nodes"], found.get("latency_ms")
    parts = [f"{human(size['before'], 'B')} to {human(size['after'], 'B')}"]
    parts += [f"{nodes['before']} to {nodes['after']} nodes"]
    parts += [f"{times['before']:.3g} to {times['after']:.3g} ms"] if times else []
    return f"of this without loss, by reading it alone: {', '.join(parts)}"


def gates(report: Told) -> list[tuple[str, str, str]]:
    """Each gate with its value."""
    return [
        (one["gate"], shown(one["value"], one["unit"]), "passed" if one["passed"] else "MISSED")
        for one in report.get("gates", ())
    ]


def steps(report: Told) -> list[tuple[str, ...]]:
    """What each of several passes left: bytes, MACs, accuracy, noise, seconds."""
    return [
        (
            one["pass"],
            human(one["size_bytes"], "B"),
            human(one["macs"]),
            next((metric(report, *pair) for pair in (one["accuracy"] or {}).items()), "-"),
            number(one["sqnr_db"], 1, " dB"),
            f"{one['seconds']:.1f} s",
        )
        for one in report.get("steps", ())
    ]


Rows = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def listed(report: Told) -> Iterator[Rows]:
    """What commands tell that write no model: heads and rows of metrics, times, and who is to blame."""
    if measured := scores(report):
        yield ("metric", "value"), measured
    if models := report.get("models"):
        rows = [(one["model"], f"{one['median_ms']:.3g} ms", f"{one['speedup']:.2f} x") for one in models]
        yield ("model", "median", "speed"), rows
    if exports := report.get("exports"):
        yield ("export", "file", "bytes", "SQNR", ""), [(x["target"], x["out"] or "", *_close(x)) for x in exports]
    if "responsible" in report:
        yield (
            ("pass", "SQNR", "accuracy"),
            [(one["pass"], *worth(one["sqnr_db"], one["accuracy"])) for one in report["passes"]],
        )
        layers = [
            (
                one["tensor"],
                number(one["own_sqnr_db"], 1, " dB"),
                *worth(one["restored_sqnr_db"], one["restored_accuracy"]),
            )
            for one in report["layers"]
        ]
        yield ("layer", "adds", "SQNR without", "accuracy without"), layers


def _close(one: Told) -> tuple[str, ...]:
    said = f"checked in {one['runtime']}" if one["passed"] else one["told"]
    return (
        human(one.get("size_bytes"), "B"),
        "identical" if one.get("identical") else number(one.get("sqnr_db"), 1, " dB"),
        said,
    )


def worth(sqnr_db: float | None, accuracy: float | Mapping[str, float] | None) -> tuple[str, str]:
    """Of outputs, by the first of several metrics."""
    first = next(iter(accuracy.values()), None) if isinstance(accuracy, Mapping) else accuracy
    return number(sqnr_db, 1, " dB"), percent(first)


def scores(report: Told) -> list[tuple[str, str]]:
    """Each metric with its value."""
    units = report.get("units", {})
    return [(name, score(value, share=units.get(name) != "%")) for name, value in (report.get("metrics") or {}).items()]


def score(value: float | None, *, share: bool = True) -> str:
    """Of a metric, which may be a part of 1."""
    return "-" if value is None else rated(value, share and 0 <= value <= 1)


def blamed(report: Told) -> str:
    """What ``bisect`` found, in a sentence."""
    responsible, most = report["responsible"], report["max_drop"]
    limit = f"{report['good_db']:g} dB" if most is None else f"{most:g} point{'s' * (most != 1)}"
    good, bad = ("are above", "stay below") if most is None else ("lose no more than", "still lose more than")
    if responsible is None:
        why = "all lose something, or were fitted to what reaches them and fit nothing else"
        return f"no few layers are responsible: with all of these put back the outputs {bad} {limit} ({why})"
    if not responsible:
        return f"the outputs are good: they {good} {limit}"
    several = "these together are" if len(responsible) > 1 else "this one is"
    return f"{several} responsible, without which the outputs {good} {limit}: {', '.join(responsible)}"


STEPS = ("pass", "file", "MACs", "accuracy", "SQNR", "took")


def verdict(report: Told) -> str:
    """In a few words: an error, gates missed or passed, or what was done."""
    if "error" in report and not report.get("gates"):
        return f"failed: {report['error']['what']}"
    judged = report.get("gates", ())
    missed = sum(not one["passed"] for one in judged)
    if judged:
        return f"{missed} of {len(judged)} gates missed" if missed else f"all gates passed, {len(judged)} in all"
    return said(report) or ("done" if report.get("changed", True) else "nothing changed")


def said(report: Told) -> str:
    """The outcome of a command that writes no model; empty of others."""
    if "responsible" in report:
        return blamed(report)
    if "objectives" in report:
        front = sum(one["front"] for one in report["points"])
        return f"{front} of {report['trials']} trials are beaten by none"
    if measured := scores(report):
        return ", ".join(map(" ".join, measured))
    return ", ".join(f"{one['median_ms']:.3g} ms" for one in report.get("models") or ())


def failed(report: Told) -> bool:
    return "error" in report or not report.get("passed", True)
