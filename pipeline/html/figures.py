"""Figures of a report as short text: what a key means says how its value is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from ..text import harmless, human, percent

LONGEST = 400
"""Characters of a name that are shown; of a longer one its two ends."""
NONE = "\N{EN DASH}"
LABELS = {
    "accuracy": "accuracy",
    "bibench": "BiBench",
    "by_layer": "What each layer cost and costs",
    "bops": "MACs of bits",
    "branches": "Branches of residual sums, and which went",
    "chosen_layers": "What was chosen for each layer, and why",
    "exports": "Exports, each in its own runtime",
    "expected_error": "error expected",
    "gain": "cheaper by",
    "groups": "Groups of channels, and what was removed",
    "higher_precision": "Kept in higher precision",
    "latency_ms": "time",
    "latency_target": "How the time was met",
    "latency_ratio": "time left",
    "macs_ratio": "MACs left",
    "size_ratio": "size left",
    "took_seconds": "took",
    "told": "remarks",
    "layers": "Layers, and what became of them",
    "lossless": "What reading the file saved, with nothing lost",
    "macs": "MACs",
    "max_abs_diff": "largest difference",
    "max_rel_diff": "largest relative difference",
    "outputs": "Differences of the outputs",
    "params": "parameters",
    "own_sqnr_db": "adds",
    "passes": "What each pass left",
    "prunable": "free",
    "ranges": "How ranges were found",
    "restored_accuracy": "accuracy without",
    "restored_sqnr_db": "SQNR without",
    "runtime": "What the runtime runs",
    "size": "file size",
    "size_bytes": "file size",
    "skipped": "What stayed as it was, and why",
    "sqnr_db": "SQNR",
    "speedup": "faster by",
    "verified": "Proof",
    "worst": "Where the error comes from",
}
_FRACTIONS = {"kept", "keep", "latency_ratio", "macs_ratio", "size_ratio", "top1_agreement", "agreement"}
_ACCURACY = "_accuracy"
_COUNTS = {"macs", "bops", "params"}
_TIMES = {"gain", "speedup", "storage", "overall"}


def table_title(key: str) -> str:
    """What a table is called."""
    return "What nodes compute in" if key == "nodes" else label(key)


def label(key: str) -> str:
    """What a key is called."""
    return LABELS.get(key) or key.removesuffix(_ACCURACY).replace("_", " ")


def shown(text: str, longest: int = 4000) -> str:
    """Text from files and models as it may stand in a page: on one line, steering nothing, of bounded length."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    part = whole if len(whole) <= longest else f"{whole[: longest // 2]} … {whole[-longest // 2 :]}"
    return harmless(part, lines=False)


def figure(key: str, value: Any) -> str:
    """A value as text; ``NONE`` where there is none."""
    if value is None or (isinstance(value, Real) and not math.isfinite(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real):
        return _number(key, float(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {figure('', one)}" for name, one in value.items()) or NONE
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(figure(key, one) for one in value) or NONE
    return shown(str(value), LONGEST)


def _number(key: str, value: float) -> str:
    if key.endswith("bytes"):
        return human(value, "B")
    if key in _COUNTS:
        return human(value)
    if key.endswith("_ms"):
        return milliseconds(value)
    if key.endswith("seconds"):
        return seconds(value)
    if key.endswith("_db"):
        return f"{value:.1f} dB"
    if key in _FRACTIONS:
        return percent(value, 1)
    if key.endswith(_ACCURACY):
        return percent(value)
    if key in _TIMES:
        return f"{value:.2f} x"
    if value == int(value):
        return f"{value:,.0f}" if abs(value) < 1e6 else human(value)
    return f"{value:.4g}"


def milliseconds(value: float | None) -> str:
    """``0.0348 ms``."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.3g} ms"


def seconds(value: float | None) -> str:
    """``0.6 s``, ``4 min 10 s``."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 0.01:
        return "under 0.01 s"
    if value < 100:
        return f"{value:.2g} s" if value < 1 else f"{value:.1f} s"
    return f"{value // 60:.0f} min {value % 60:.0f} s"


def points(change: float) -> str:
    """A change of a fraction, in points, with its sign."""
    return f"{100 * change:+.2f} points"
