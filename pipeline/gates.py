"""Gates: limits that a result must keep, read once and held against what a report tells."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graph.errors import GateFailed, UsageError
from ..graph.spec import in_a_file, near
from ..measure.paired import losses
from ..measure.worth import Worth
from .units import UNITS, quantity, unit_of

Told = Mapping[str, Any]
"""A report as plain data."""
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_RELATIVE = {"x": 1.0, "%": 0.01}
_SHARE = {"": 1.0, "%": 0.01}
_EXAMPLE = "drop <= 1.0, accuracy >= 0.9, size <= 500KB, latency <= 0.8x, sqnr >= 20dB"


@dataclass(frozen=True)
class Figure:
    """What a gate can limit: what it ``needs`` to be measured, the unit it is told in, and what units stand for."""

    value: Callable[[Told], float | None]
    original: Callable[[Told], float | None] | None = None
    needs: str = ""
    unit: str = ""
    units: Mapping[str, float] = field(default_factory=lambda: _SHARE)
    example: str = ""


def _amount(when: str, key: str) -> Callable[[Told], float | None]:
    return lambda told: told.get(when, {}).get(key)


def _accuracy(when: str, metric: str = "") -> Callable[[Told], float | None]:
    def of(told: Told) -> float | None:
        values: Mapping[str, float] = (told.get("accuracy") or {}).get(when, {})
        return values.get(metric) if metric else next(iter(values.values()), None)

    return of


def _drop(told: Told) -> float | None:
    """The most that any metric lost: in points, or in percent where a metric is no share."""
    return max((round(one.points, 9) for one in losses(told).values()), default=None)


def _worst(key: str) -> Callable[[Told], float | None]:
    """Of all outputs."""

    def of(told: Told) -> float | None:
        return min((v for one in told.get("outputs", {}).values() if (v := one[key]) is not None), default=None)

    return of


def _latency(told: Told) -> float | None:
    return (told.get("latency_ms") or {}).get("after")


def _slower(told: Told) -> float | None:
    """The time as it is told to be a part of the original's: of runs in turn, not of medians."""
    found = told.get("latency_ms") or {}
    return found["after"] * found["speedup"] if found else None


FIGURES: Mapping[str, Figure] = {
    "drop": Figure(_drop, needs="labels", unit="points", units={"": 1.0, "points": 1.0, "pp": 1.0}, example="1.0"),
    "accuracy": Figure(_accuracy("after"), _accuracy("before"), needs="labels", example="0.9"),
    "agreement": Figure(_worst("top1_agreement"), needs="data", example="0.98"),
    "sqnr": Figure(_worst("sqnr_db"), needs="data", unit="dB", units={"": 1.0, "dB": 1.0}, example="20dB"),
    "size": Figure(_amount("after", "size_bytes"), _amount("before", "size_bytes"), "", "B", UNITS["size"], "500KB"),
    "macs": Figure(_amount("after", "macs"), _amount("before", "macs"), "", "", UNITS["macs"], "0.5x"),
    "params": Figure(_amount("after", "params"), _amount("before", "params"), "", "", UNITS["params"], "0.5x"),
    "latency": Figure(_latency, _slower, "times", "ms", UNITS["latency"], "0.8x"),
}
"""By the names that gates use; any other name is that of a metric."""


@dataclass(frozen=True)
class Gate:
    """A limit in the figure's own unit or, where ``relative``, times what the original has."""

    text: str
    name: str
    sign: str
    limit: float
    relative: bool = False

    @classmethod
    def read(cls, given: str | Gate) -> Gate:
        """``"size <= 500KB"``, ``"latency <= 0.8x"``. Raises UsageError."""
        if isinstance(given, Gate):
            return given
        found = re.fullmatch(r"\s*(\S.*?)\s*(<=|>=|<|>)\s*([^<>=]*?)\s*", str(given))
        amount = quantity(found[3]) if found else None
        if found is None or amount is None:
            raise UsageError(
                f"cannot read gate {str(given)!r}",
                why="it is a name, <= or >=, and a number",
                fix=f"such as {_EXAMPLE}",
            )
        name, (number, unit) = found[1], amount
        figure = figure_of(name)
        text = f"{name} {found[2]} {found[3]}"
        relative = bool(figure.original) and (unit.lower() == "x" or (unit == "%" and "%" not in figure.units))
        one = unit_of(unit, _RELATIVE if relative else figure.units)
        if one is None or _meant_otherwise(number * one, unit, figure):
            raise UsageError(f"gate {text!r}: {_no_unit(name, unit, figure)}", fix=_written(name, found[2], figure))
        if wrong := _impossible(number * one, relative, figure):
            raise UsageError(f"gate {text!r} means nothing: {wrong}", fix=_written(name, found[2], figure))
        return cls(text, name, found[2], number * one, relative)

    @property
    def figure(self) -> Figure:
        return figure_of(self.name)

    @property
    def unit(self) -> str:
        """Of the limit and the value."""
        return "x" if self.relative else self.figure.unit

    def judged(self, told: Told) -> dict[str, Any]:
        """As reports tell it. What could not be measured does not pass."""
        value = self._value(told)
        passed = value is not None and SIGNS[self.sign](value, self.limit)
        told = {"gate": self.text, "figure": self.name, "limit": self.limit, "unit": self.unit}
        return {**told, "value": value, "passed": passed, "of_accuracy": self.figure.needs == "labels"}

    def _value(self, told: Told) -> float | None:
        value, original = self.figure.value(told), self.figure.original
        if not self.relative or value is None or original is None:
            return value
        before = original(told)
        return None if before is None else value / before if before else 1.0


def figure_of(name: str) -> Figure:
    """What a name means: one of ours, or a metric. Raises UsageError."""
    from ..measure.accuracy import METRICS

    if name in FIGURES:
        return FIGURES[name]
    if not in_a_file(name) and name.partition(":")[0] not in METRICS:
        raise UsageError(f"there is no figure {name!r} for a gate", fix=near(name, {*FIGURES, *METRICS}))
    worth = Worth.of(METRICS[name]())  # its options are read
    units, example = (_SHARE, "0.9") if worth.share else ({"": 1.0}, "1.5")
    return Figure(_accuracy("after", name), _accuracy("before", name), needs="labels", units=units, example=example)


def read_gates(given: Iterable[str | Gate]) -> tuple[Gate, ...]:
    """Raises UsageError."""
    return tuple(map(Gate.read, given))


def metrics_of(gates: Iterable[Gate]) -> list[str]:
    """The metrics that are named."""
    return list(dict.fromkeys(gate.name for gate in gates if gate.name not in FIGURES))


def limit_accuracy(gates: Iterable[Gate]) -> bool:
    """Whether any gate says how right the result must be."""
    return any(gate.figure.needs == "labels" for gate in gates)


def require(gates: Iterable[Gate], *, labels: str | None, data: str | None, times: str | None) -> None:
    """Refuse gates that nothing can be measured for, before any work: each may say how to mend what is missing.

    Raises:
        UsageError: says which gate, and what it needs.
    """
    missing = {"labels": ("labelled data", labels), "data": ("data", data), "times": ("measured times", times)}
    for gate in gates:
        needed, fix = missing.get(gate.figure.needs, ("", None))
        if fix:
            raise UsageError(f"gate {gate.text!r} needs {needed}", fix=fix)


def missed(judged: Sequence[Mapping[str, Any]]) -> GateFailed | None:
    """What to say of gates that were missed; None where all passed."""
    failed = [f"{one['gate']} (it is {shown(one['value'], one['unit'])})" for one in judged if not one["passed"]]
    if not failed:
        return None
    return GateFailed(f"{len(failed)} of {len(judged)} gates missed: {'; '.join(failed)}")


def shown(value: float | None, unit: str) -> str:
    """A value of a gate as readers want it."""
    if value is None:
        return "not measured"
    if unit in ("B", "") and value >= 1000:
        return f"{value:,.0f}{' ' * bool(unit)}{unit}"
    return f"{value:.4g}{' ' if len(unit) > 1 else ''}{unit}"


def _meant_otherwise(limit: float, unit: str, figure: Figure) -> bool:
    """Numbers alone that make no sense: 90 for 90 %, 0.5 for half of the MACs."""
    return not unit and ((figure.units is _SHARE and limit > 1) or (figure.units is UNITS["macs"] and 0 < limit < 1))


def _impossible(limit: float, relative: bool, figure: Figure) -> str:
    """What no result can be: then a gate holds always or never."""
    if relative or figure.unit in ("B", "ms"):
        return "" if limit > 0 else "the limit must be above 0"
    if figure.units is _SHARE:
        return "" if 0 <= limit <= 1 else "the limit must be between 0 and 1"
    return "the limit must not be below 0" if limit < 0 and figure.units is UNITS["macs"] else ""


def _no_unit(name: str, unit: str, figure: Figure) -> str:
    allowed = ", ".join(
        [*filter(None, figure.units), *(["x", "%"] if figure.original and "%" not in figure.units else [])]
    )
    return f"{name} takes no {unit!r}" if unit else f"the number needs a unit, one of {allowed}"


def _written(name: str, sign: str, figure: Figure) -> str:
    relative = (
        f", or {name} {sign} 0.8x for a part of the original's" if figure.original and "x" not in figure.example else ""
    )
    return f"write {name} {sign} {figure.example}{relative}"
