"""Amounts as users write them: a number, and a unit that the figure takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..graph.errors import UsageError

_LEAST_MEMORY, _MOST_MEMORY = 16 << 20, 1 << 60
_MEMORY = {"B": 1.0} | {unit + end: 1024.0**k for k, unit in enumerate("KMGT", 1) for end in ("", "B", "iB")}
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
UNITS: Mapping[str, Mapping[str, float]] = {
    "size": {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "macs": _COUNTS,
    "params": _COUNTS,
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
}
"""By figure what one of a unit is: bytes, counts, milliseconds. Capital and small letters are the same."""


def quantity(text: str) -> tuple[float, str] | None:
    """``500 KB`` as 500 and ``KB``; None for what is no number with a unit."""
    found = re.fullmatch(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)\s*", text, re.IGNORECASE)
    if found is None or not math.isfinite(float(found[1])):
        return None
    return float(found[1]), found[2]


def unit_of(unit: str, units: Mapping[str, float]) -> float | None:
    """What one of a unit is; None where it is none of these."""
    return {name.lower(): value for name, value in units.items()}.get(unit.lower())


def parse_size(text: str, whose: str = "--memory") -> int:
    """``256MB`` or ``1.5 GiB`` as bytes to hold tensors in; units are powers of 1024. Raises UsageError on anything else."""
    read = quantity(text)
    one = None if read is None else unit_of(read[1] or "B", _MEMORY)
    if read is None or one is None:
        raise UsageError(f"{whose} {text!r} is no size", fix=f"write it like {whose} 256MB or {whose} 1.5GB")
    if not _LEAST_MEMORY <= read[0] * one < _MOST_MEMORY:
        limit = "less than 16 MB" if read[0] * one < _LEAST_MEMORY else "more than there can be"
        raise UsageError(f"{whose} {text!r} is {limit}", fix=f"write it like {whose} 256MB or {whose} 1.5GB")
    return int(read[0] * one)
