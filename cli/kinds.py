"""Targets of exports and sources of imports, listed with what they need."""

from __future__ import annotations

from typing import Any

from ..graph.lazy import told_missing
from ..passes.options import options_of
from . import console


def tell_kinds(registry: Any, key: str) -> None:
    """All that is registered: what it does, its options, and what to install where that is not there."""
    found = []
    for name in registry:
        kind = registry.entry(name).thing
        options = {one.name: one.help for one in options_of(kind)}
        about = (kind.__doc__ or "").partition("\n")[0]
        install = told_missing(kind.extra, kind.imports)
        found.append({"name": name, "about": about, "options": options, "install": install})

    def show() -> None:
        rows = [(one["name"], one["install"] or "ready", one["about"]) for one in found]
        console.table("", ("name", "needs", "what it is"), rows)
        for one in found:
            for option_name, help_text in one["options"].items():
                console.line(f"{one['name']}: --{option_name.replace('_', '-')}: {help_text}")

    console.emit({key: found}, show)
