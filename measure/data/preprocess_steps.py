"""Reading ``--preprocess``: the grammar of its steps. What the steps do is in ``preprocess``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ...graph.errors import UsageError

PRESETS = {
    "none": "",
    "unit": "scale=1/255",
    "imagenet": "resize=256,crop=224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw",
    "cifar10": "scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw",
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
_DTYPES = ("float16", "float32", "float64", "bool", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)))


@dataclass(frozen=True)
class Number:
    """A number kept as the fraction it was written as: dividing by 255 rounds once, multiplying by 1/255 twice."""

    over: float
    under: float

    @property
    def value(self) -> float:
        return self.over / self.under


@dataclass(frozen=True)
class Step:
    """One ``key=value``: ``numbers`` for arithmetic, ``sizes`` for shapes, ``word`` for names."""

    key: str
    numbers: tuple[Number, ...] = ()
    sizes: tuple[int, ...] = ()
    word: str = ""


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read steps separated by commas, presets included.

    Raises:
        UsageError: a step is unknown or malformed, or the order is surely a slip.
    """
    tokens = [token.strip() for token in text.split(",") if token.strip()]
    expanded = [t for token in tokens for t in (PRESETS[token].split(",") if token in PRESETS else [token]) if t]
    steps = tuple(_step(token) for token in expanded)
    keys = [s.key for s in steps]
    if "std" in keys and "mean" in keys and keys.index("std") < keys.index("mean"):
        raise UsageError(
            "--preprocess divides by std before it subtracts mean",
            why="steps are applied from left to right",
            fix="write mean=...,std=... (or offset= and scale= if that order is meant)",
        )
    if keys.count("layout") > 1:
        raise UsageError("--preprocess changes the layout twice", fix="say layout= once")
    return steps


def _step(token: str) -> Step:
    key, equals, value = (t.strip() for t in token.partition("="))
    if key not in _STEPS or not equals:
        raise UsageError(
            f"there is no preprocessing step {token!r}",
            fix=f"steps are {', '.join(f'{k}=' for k in _STEPS)}; presets are {', '.join(PRESETS)}",
        )
    parsed = _STEPS[key][0](key, value)
    if parsed is None:
        raise UsageError(f"cannot read {token!r} in --preprocess", fix=f"for example {_STEPS[key][1]}")
    return parsed


def _number(text: str) -> Number | None:
    match = re.fullmatch(f"({_NUMBER})(?:/({_NUMBER}))?", text.strip())
    if not match or (match[2] and float(match[2]) == 0):
        return None
    return Number(float(match[1]), float(match[2]) if match[2] else 1.0)


def _one_number(key: str, value: str) -> Step | None:
    number = _number(value)
    return Step(key, (number,)) if number else None


def _per_channel(key: str, value: str) -> Step | None:
    numbers = [_number(part) for part in value.split(":")]
    good = tuple(n for n in numbers if n and not (key == "std" and n.value == 0))
    return Step(key, good) if len(good) == len(numbers) else None


def _sizes(key: str, value: str) -> Step | None:
    sizes = value.split("x")
    fits = all(s.isdecimal() and 0 < int(s) < 1 << 31 for s in sizes) and (key == "shape" or len(sizes) <= 2)
    return Step(key, sizes=tuple(int(s) for s in sizes)) if fits else None


def _one_of(*words: str) -> Callable[[str, str], Step | None]:
    return lambda key, value: Step(key, word=value) if value in words else None


_STEPS: dict[str, tuple[Callable[[str, str], Step | None], str]] = {
    "scale": (_one_number, "scale=1/255"),
    "offset": (_one_number, "offset=-127.5"),
    "mean": (_per_channel, "mean=0.485:0.456:0.406"),
    "std": (_per_channel, "std=0.229:0.224:0.225"),
    "layout": (_one_of("nchw", "nhwc"), "layout=nchw or layout=nhwc"),
    "channels": (_one_of("bgr"), "channels=bgr"),
    "shape": (_sizes, "shape=1x49x10"),
    "dtype": (_one_of(*_DTYPES), "dtype=float32 (float16, float64, bool, int8 to int64, uint8 to uint64)"),
    "resize": (_sizes, "resize=256 or resize=240x320"),
    "crop": (_sizes, "crop=224 or crop=240x320"),
}
"""How the value of each is read, and an example."""
EXAMPLES = {key: example for key, (_, example) in _STEPS.items()}
