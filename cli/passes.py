"""``intaglio passes``: everything that can be plugged in."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from ..graph.registry import Registry
from . import console
from .options import Debug, Json

# Where each registry is: module of the package, and name in it.
REGISTRIES = (("measure.accuracy", "metrics"),)


def passes(json: Json = False, debug: Debug = False) -> None:
    """List what can be plugged in: passes, criteria, metrics and more.

    A plug-in that failed to load is listed with the reason.

    Example: intaglio passes
    """
    listed = [entry for module, name in REGISTRIES for entry in _entries(_registry(module, name))]

    def show() -> None:
        rows = [(e["kind"], e["name"], e["about"] if e["works"] else f"BROKEN: {e['why']}") for e in listed]
        console.table("", ("kind", "name", "what it does"), rows)

    console.emit({"plugins": listed}, show)


def _registry(module: str, name: str) -> Registry[Any]:
    package = (__package__ or "").rpartition(".")[0]
    found: Registry[Any] = getattr(import_module(f"{package}.{module}"), name)
    return found


def _entries(registry: Registry[Any]) -> list[dict[str, Any]]:
    working = [
        {"kind": registry.kind, "name": name, "works": True, "about": _first_line(registry[name]), "why": ""}
        for name in registry
    ]
    broken = [
        {"kind": registry.kind, "name": name, "works": False, "about": "", "why": why}
        for name, why in sorted(registry.broken.items())
    ]
    return working + broken


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
