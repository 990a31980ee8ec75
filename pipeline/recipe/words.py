"""Words of a pass for who writes recipes: its options as recipes call them, in the place of flags of its own command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ...graph.errors import IntaglioError
from ...passes.base import Pass
from ...passes.change import Change
from ...passes.options import options_of

_FLAG = re.compile(r"intaglio [^;,]*|--[a-z][a-z-]*")
"""Those of a whole command line stay."""
_REASONS = {"skipped", "reason", "advice", "why"}
"""Keys under which what is told of layers has sentences."""


def as_recipe(text: str, kind: type[Pass]) -> str:
    """The same sentence, and behind it what may go into the recipe."""
    names, found = dict(_names(kind)), dict[str, None]()

    def put(flag: re.Match[str]) -> str:
        if (name := names.get(flag[0])) is None:
            return flag[0]
        found[name] = None
        return name

    said = _FLAG.sub(put, text)
    return said + f"; in the recipe: {', '.join(f'{name}: ...' for name in found)}" if found else said


@contextmanager
def errors_as_recipe(kind: type[Pass]) -> Iterator[None]:
    try:
        yield
    except IntaglioError as error:
        _reword(error, kind)
        raise


def change_as_recipe(change: Change, kind: type[Pass]) -> Change:
    """What a change tells: notes, advice, reasons."""
    if change.refusal:
        _reword(change.refusal, kind)
    return replace(
        change,
        notes=[as_recipe(note, kind) for note in change.notes],
        advice={key: as_recipe(text, kind) for key, text in change.advice.items()},
        details=_reasons(change.details, kind),
        layers=_reasons(change.layers, kind),
    )


def _reword(error: IntaglioError, kind: type[Pass]) -> None:
    """What to put into the recipe is said once, with how to mend it."""
    said, _, hint = as_recipe("\n".join((error.what, error.why, error.fix)), kind).partition("; in the recipe: ")
    error.what, error.why, error.fix = said.split("\n", 2)
    error.fix += f"; in the recipe: {hint}" if hint else ""


def _reasons(told: Any, kind: type[Pass], key: object = "") -> Any:
    if isinstance(told, Mapping):
        inside = {name: key if key in _REASONS else name for name in told}
        return {name: _reasons(one, kind, inside[name]) for name, one in told.items()}
    if isinstance(told, (list, tuple)):
        return [_reasons(one, kind, key) for one in told]
    return (
        as_recipe(told, kind).partition("; in the recipe: ")[0] if key in _REASONS and isinstance(told, str) else told
    )


def _names(kind: type[Pass]) -> Iterator[tuple[str, str]]:
    """Flags, and the options that say the same in a recipe."""
    for one in options_of(kind):
        yield one.flag, one.name
        yield f"--no-{one.flag[2:]}", f"{one.name}: no"
        yield from ((target.flag, "keep") for target in one.spelling.targets)
