"""Limits that a search must keep, as users write them: fractions of the original, or amounts such as 500KB and 5ms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...graph.errors import UsageError
from ..units import UNITS, quantity, unit_of

AMOUNTS = ("size", "macs", "params", "latency")
"""What can be limited, beside the accuracy that may be lost."""
_EXAMPLES = {"size": "500KB", "macs": "30M", "params": "200K", "latency": "5ms"}


@dataclass(frozen=True)
class Limit:
    """At most ``value``: a fraction of the original's, or where ``absolute`` bytes, MACs, parameters or milliseconds."""

    value: float
    absolute: bool = False

    @classmethod
    def read(cls, amount: str, given: float | str | Limit) -> Limit:
        """``0.25``, ``0.25x``, ``25%``, or a number with a unit. Raises UsageError."""
        if isinstance(given, Limit):
            return given
        number, unit = quantity(str(given)) or (0.0, "")
        one, limit = unit_of(unit, UNITS[amount]), None
        if unit.lower() in ("", "x", "%"):
            limit = cls(number / 100 if unit == "%" else number)
        elif one is not None:
            limit = cls(number * one, absolute=True)
        if limit is None or not 0 < limit.value < math.inf or (limit.value > 1 and not limit.absolute):
            raise UsageError(
                f"`{amount}` {given!s} is no limit",
                why="it is a fraction above 0 and up to 1 of what the original has, or an amount with its unit",
                fix=f"write it like `{amount}` 0.5, or like `{amount}` {_EXAMPLES[amount]}",
            )
        return limit

    def fraction(self, whole: float) -> float:
        """Of an original that has ``whole``."""
        return self.value / whole if self.absolute and whole else self.value


@dataclass(frozen=True)
class Limits:
    """Any of them may be None; ``max_drop`` is in points of accuracy, on labelled data.

    Raises UsageError where nothing is limited.
    """

    size: Limit | None = None
    macs: Limit | None = None
    params: Limit | None = None
    latency: Limit | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, one.name) is None for one in fields(self)):
            raise UsageError(
                "nothing is limited", fix="give one of `size`, `macs`, `params`, `latency`, `max_drop`, or a recipe"
            )

    @classmethod
    def read(cls, max_drop: float | None = None, **given: float | str | Limit | None) -> Limits:
        """From numbers and texts, by the names in ``AMOUNTS``. Raises UsageError."""
        limits = {name: Limit.read(name, one) for name, one in given.items() if one is not None}
        if max_drop is not None and not 0 <= max_drop < math.inf:
            raise UsageError(f"`max_drop` {max_drop:g} is out of range", fix="give points of accuracy, such as 1")
        return cls(**limits, max_drop=max_drop)

    def fractions(self, whole: Mapping[str, float]) -> Iterator[tuple[str, float]]:
        """Each limit as a fraction of what the original has, by the names in ``AMOUNTS``."""
        for name in AMOUNTS:
            if (limit := getattr(self, name)) is not None:
                yield name, limit.fraction(whole[name])

    def as_dict(self) -> dict[str, Any]:
        """As plain data; absolute limits in bytes, counts and milliseconds."""
        told: dict[str, Any] = {
            name: {"value": one.value, "absolute": one.absolute}
            for name in AMOUNTS
            if (one := getattr(self, name)) is not None
        }
        return told if self.max_drop is None else {**told, "max_drop": self.max_drop}
