"""Which other packages took part in a run, and in what version: a result can be made again only with the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from ..graph.registry import OWN, Registry, owner
from ..passes.base import PASSES, Pass
from ..passes.options import options_of
from ..passes.registries import REGISTRIES, registry

_BY_OPERATOR = ("intaglio.rules", "intaglio.moment_rules")
"""What no option names: it takes part where a model has such an operator."""


def plugins_of(passes: Sequence[Pass]) -> list[dict[str, str]]:
    """Passes, what their options name, and rules for operators, as far as they are not ours."""
    found = {}
    for one, name in [named for step in passes for named in _named(step)] + list(_rules()):
        entry = (isinstance(name, str) and one.here(name)) or one.entry(name)
        if not entry.builtin:
            short = name if isinstance(name, str) else name["name"]
            found[one.kind, short] = {"kind": one.kind, "name": short, **_package(entry.module.partition(".")[0])}
    return list(found.values())


def _named(step: Pass) -> Iterator[tuple[Registry[Any], Any]]:
    """Defaults of our own passes are ours: they are not looked up, which would import them."""
    known = PASSES.here(step.name)
    if known:
        yield PASSES, step.name
    for option in options_of(type(step)):
        value = getattr(step, option.name)
        if option.registered is None or (known and known.builtin and value == option.field.get_default()):
            continue
        for spec in value if isinstance(value, (list, tuple)) else [value]:
            if (
                spec
                and not option.registered.means_else(spec)
                and any(spec in one for one in option.registered.registries)
            ):
                yield owner(spec, *option.registered.registries), spec


def _rules() -> Iterator[tuple[Registry[Any], str]]:
    for group in _BY_OPERATOR:
        if f"{OWN}.{REGISTRIES[group].partition(':')[0]}" in sys.modules:
            yield from ((registry(group), name) for name in registry(group).joined)


@cache
def _package(module: str) -> dict[str, str]:
    """The package that a module was installed with."""
    from importlib.metadata import packages_distributions, version

    names = packages_distributions().get(module, [])
    return {"package": names[0], "version": version(names[0])} if names else {"package": module, "version": ""}
