"""What the commands that give a model fewer bits tell alike."""

from __future__ import annotations

from typing import Any

from . import console

_CLEAN_DB = 40.0
"""Layers above are not worth a word of advice."""


def tell_noise(result: dict[str, Any]) -> None:
    """Of the outputs, and of the worst layers what may help."""
    for name, ratio in result["sqnr_db"].items():
        console.line(f"output {name}: signal to noise {decibels(ratio)}")
    for one in result["worst"]:
        if one["sqnr_db"] < _CLEAN_DB:
            console.line(f"noisy: {one['name']} at {decibels(one['sqnr_db'])}; {one['advice']}")


def tell_skipped(result: dict[str, Any], *, label: str) -> None:
    """What stays in float and why, and what keeps more bits than was asked for."""
    from ..graph.bits import IN_BITS

    for reason, names in _by_reason(result["skipped"]).items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.line(f"left {'as it is' if reason == IN_BITS else 'in float'}: {shown}: {reason}")
    if result["higher_precision"]:
        console.line(f"{label} {', '.join(result['higher_precision'])}, to stay within --max-drop")


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        found.setdefault(reason, []).append(name)
    return found


def decibels(value: float | None) -> str:
    return console.number(value, 1, " dB")
