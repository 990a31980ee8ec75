"""Amounts as users write them: a number, and a unit that the figure takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..graph.errors import UsageError

_LEAST_MEMORY = 16 << 20
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
    """``256MB`` as bytes to hold tensors in; units are powers of 1024. Raises UsageError on anything else."""
    read = re.fullmatch(r"(\d{1,6})\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(read[1]) << (10 * " KMGT".index(read[2].upper())) if read else 0
    if size < _LEAST_MEMORY:
        raise UsageError(f"{whose} {text!r} is no size of 16 MB or more", fix=f"write it like {whose} 256MB")
    return size
