"""What a search may choose: a chain of passes, some of whose options are open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...graph.errors import UsageError
from ...graph.spec import split

Values = Mapping[str, Any]
"""Of each parameter, by its name."""


@dataclass(frozen=True)
class Parameter:
    """One open option: one of some ``values``, or a number between ``low`` and ``high``, on a logarithmic scale if ``log``.

    ``whole`` numbers are in steps of ``step``.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    whole: bool = False
    log: bool = False

    @property
    def levels(self) -> int:
        """How many values there are; 0 for numbers without steps."""
        return len(self.values) or (int(self.high - self.low) // self.step + 1 if self.whole else 0)

    @property
    def ordered(self) -> bool:
        """Whether values are numbers that grow from one to the next, none at the end being the most."""
        told = self.values[:-1] if self.values[-1:] == (None,) else self.values
        numbers = [one for one in told if isinstance(one, (int, float)) and not isinstance(one, bool)]
        return len(numbers) == len(told) and numbers == sorted(numbers)

    def at(self, place: float) -> Any:
        """The value at a place between 0 and 1."""
        if self.values:
            return self.values[min(int(place * len(self.values)), len(self.values) - 1)]
        if self.whole:
            return int(self.low) + self.step * min(int(place * self.levels), self.levels - 1)
        if self.log:
            return self.low * (self.high / self.low) ** place
        return self.low + (self.high - self.low) * place

    def place(self, value: Any) -> float:
        """Where a value stands: the middle of its level. Raises ValueError for what is none."""
        if self.values:
            return (self.values.index(value) + 0.5) / len(self.values)
        if self.whole:
            return ((value - self.low) / self.step + 0.5) / self.levels
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Open:
    """Stands in a template where a parameter's value goes."""

    parameter: Parameter


@dataclass(frozen=True)
class Space:
    """``template`` has passes as plain data, with ``Open`` places. ``stages`` says of parameters how deep they act."""

    template: Sequence[Mapping[str, Any]]
    stages: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """In the order of the template."""
        return [one.parameter for one in _opened(self.template)]

    def passes(self, values: Values) -> list[dict[str, Any]]:
        """The passes with these values; what a layer or group keeps as it is, is not named."""
        made = [_filled(one, values) for one in self.template]
        split = {name for one in made for name, _ in one.get("ranks", ())}
        for one in made:
            if "layer_bits" in one:
                one["layer_bits"] = [pair for pair in one["layer_bits"] if pair[0] not in split]
        return [one for one in made if all(one.get(key) != [] for key in NAMED)]

    def values(self, places: np.ndarray) -> dict[str, Any]:
        """Of places between 0 and 1. Shapes: (parameters,)."""
        return {one.name: one.at(float(place)) for one, place in zip(self.parameters, places, strict=True)}

    def places(self, values: Values) -> np.ndarray:
        return np.array([one.place(values[one.name]) for one in self.parameters])

    def as_dict(self) -> list[dict[str, Any]]:
        """The parameters as plain data."""
        return [
            {"name": one.name, "of": list(one.values)}
            if one.values
            else {
                "name": one.name,
                "from": one.low,
                "to": one.high,
                "step": one.step if one.whole else None,
                "log": one.log,
            }
            for one in self.parameters
        ]


NAMED = ("widths", "ranks", "layer_bits")
"""Options that name layers or groups: where they name none, their pass is left out."""


def _opened(told: Any) -> Iterator[Open]:
    if isinstance(told, Open):
        yield told
    elif isinstance(told, Mapping):
        for one in told.values():
            yield from _opened(one)
    elif isinstance(told, (list, tuple)):
        for one in told:
            yield from _opened(one)


def _filled(told: Any, values: Values) -> Any:
    if isinstance(told, Open):
        return values[told.parameter.name]
    if isinstance(told, Mapping):
        filled = {key: _filled(one, values) for key, one in told.items()}
        return {key: _pairs(one) if key in NAMED else one for key, one in filled.items()}
    if isinstance(told, (list, tuple)):
        return [_filled(one, values) for one in told]
    return told


def _pairs(named: Any) -> Any:
    """What is named without a value keeps all."""
    return [pair for pair in named if pair[1] is not None]


def opened(passes: Sequence[Any]) -> Space:
    """The space of a recipe's passes: options may be ``{from: 0.3, to: 1.0}`` or ``{of: [w4, w8]}``.

    Raises:
        UsageError: a range cannot be read, or nothing is open.
    """
    space = Space([_read(_mapping(one), f"passes[{place}]") for place, one in enumerate(passes)])
    if not space.parameters:
        raise UsageError(
            "the recipe leaves nothing open",
            fix="give an option a range, such as keep: {from: 0.3, to: 1.0}, or choices, such as {of: [w4, w8]}",
        )
    return space


def _mapping(one: Any) -> Any:
    """A pass that is written in one line."""
    if not isinstance(one, str):
        return one
    name, values = split(one, "pass")
    return {"pass": name, **values}


def _read(told: Any, name: str) -> Any:
    if isinstance(told, Mapping):
        if told.keys() & {"of", "from", "to"}:
            return Open(_parameter(told, name))
        return {key: _read(one, f"{name}.{key}") for key, one in told.items()}
    if isinstance(told, (list, tuple)):
        return [_read(one, f"{name}[{place}]") for place, one in enumerate(told)]
    return told


def _parameter(told: Mapping[str, Any], name: str) -> Parameter:
    fix = "write {from: 0.3, to: 1.0}, with step: or log: if need be, or {of: [w4, w8]}"
    if told.keys() == {"of"} and isinstance(told["of"], list) and told["of"]:
        return Parameter(name, tuple(told["of"]))
    numbers = [told[key] for key in ("from", "to", "step") if key in told]
    wrong = told.keys() - {"from", "to", "step", "log"} or not told.keys() >= {"from", "to"}
    if wrong or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in numbers):
        raise UsageError(f"{name}: this is no range", fix=fix)
    low, high, step = (*numbers, 1)[:3]
    log, whole = told.get("log") is True, all(isinstance(one, int) for one in numbers)
    if not low < high or (log and low <= 0) or ("step" in told and (not whole or step < 1)):
        raise UsageError(f"{name}: this range is empty, or its steps are no whole numbers", fix=fix)
    return Parameter(name, (), low, high, step, whole and not log, log)
