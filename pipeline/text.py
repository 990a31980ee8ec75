"""Numbers short enough to read, and names that cannot steer what shows them: for the console and for written reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Control characters of both sets, and those that turn, join or break lines of text (Unicode TR 36 and 55).
_RANGES = ((0, 10), (11, 32), (0x7F, 0xA0), (0x61C, 0x61D), (0x200E, 0x2010), (0x2028, 0x202F), (0x2066, 0x206A))
STEERING = [*(code for first, end in _RANGES for code in range(first, end)), 0xFEFF]
"""Code points that do something instead of being shown."""
_ESCAPED = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in STEERING}
_ONE_LINE = {**_ESCAPED, ord("\n"): r"\x0a"}


def harmless(text: str, *, lines: bool = True) -> str:
    """Text with what could steer a terminal, or turn the order of letters about, escaped: names come from files.

    ``lines`` lets line breaks through, which a cell of a table must not have.
    """
    return text.translate(_ESCAPED if lines else _ONE_LINE)


def human(number: float | None, unit: str = "") -> str:
    """A number short enough to read: ``41.2 M``, ``1.3 MB`` (powers of 1000)."""
    if number is None or not math.isfinite(number):
        return "-"
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= power * 0.9995:
            form = ".3g" if abs(number) < power * 999.5 else ".0f"
            return f"{number / power:{form}} {prefix}{unit}"
    return f"{number:.4g} {unit}".rstrip()


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A number with so many decimals; ``-`` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def count(number: int, thing: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as ``91.55 %``."""
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def rated(value: float | None, share: bool = True, digits: int = 2) -> str:
    """The number of a metric: a part of 1 in percent, any other as it is."""
    if share or value is None or not math.isfinite(value):
        return percent(value, digits)
    return f"{value:.5g}"


def metric(report: Mapping[str, Any], name: str, value: float | None) -> str:
    """The same, by what a report says of the metric."""
    drop = ((report.get("accuracy") or {}).get("drop") or {}).get(name)
    return rated(value, drop is None or drop.get("unit") != "%")


def plain(value: Any) -> Any:
    """The same data with only what JSON knows: NumPy scalars and arrays unwrapped, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (str, int, type(None))):  # bool is an int
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
