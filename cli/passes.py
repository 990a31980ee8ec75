"""``intaglio passes``: everything that can be plugged in."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.registry import Registry
from . import console
from .options import Debug, Json

if TYPE_CHECKING:
    from ..measure.run.native import Kernels

_MANY = 40


def passes(
    everything: Annotated[bool, typer.Option("--all", help="Also list every operator that has a rule.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List what can be plugged in: passes, criteria, metrics and more.

    A plug-in that failed to load is listed with the reason. The last line tells whether the kernels for operators on
    bits were built, and which instruction set they use.

    Example: intaglio passes
    """
    from ..measure.run.native import kernels
    from ..passes.registries import REGISTRIES, registry

    listed: dict[str, list[dict[str, Any]]] = {}
    for one in map(registry, REGISTRIES):
        listed[one.kind] = [*listed.get(one.kind, ()), *_entries(one)]
    found = kernels()

    def show() -> None:
        shown = {
            kind: e for kind, e in listed.items() if everything or len(e) <= _MANY or not all(x["works"] for x in e)
        }
        rows = [(e["kind"], e["name"], _told(e)) for entries in shown.values() for e in entries]
        console.table("", ("kind", "name", "what it does"), rows)
        console.line(_kernels_line(found))
        for kind in listed.keys() - shown.keys():
            console.line(f"and {console.count(len(listed[kind]), kind)}: see --all")

    told = {"built": found.built, "isa": found.isa, "present": found.present, "why": found.why}
    console.emit({"plugins": [e for entries in listed.values() for e in entries], "kernels": told}, show)


def _kernels_line(found: Kernels) -> str:
    if not found.built:
        return f"kernels: operators on bits run by their definitions; {found.why}"
    if found.isa is None:
        return f"kernels: operators on bits do not run; {found.why}"
    return f"kernels: operators on bits run with {found.isa} (this processor has {', '.join(found.present)})"


def _entries(registry: Registry[Any]) -> list[dict[str, Any]]:
    working = [_entry(registry, name) for name in registry]
    broken = [
        {"kind": registry.kind, "name": name, "works": False, "about": "", "why": why}
        for name, why in sorted(registry.broken.items())
    ]
    return working + broken


def _entry(registry: Registry[Any], name: str) -> dict[str, Any]:
    entry = registry.entry(name)
    fields = entry.options.model_fields if entry.options else {}
    return {
        "kind": registry.kind,
        "name": name,
        "works": True,
        "about": _about(entry.thing),
        "why": "",
        "options": {key: {"about": one.description or "", "default": one.get_default()} for key, one in fields.items()},
        "needs": list(entry.needs),
        "module": entry.module,
    }


def _told(entry: dict[str, Any]) -> str:
    if not entry["works"]:
        return f"BROKEN: {entry['why']}"
    options = ", ".join(entry["options"])
    return entry["about"] + (f" Options: {options}." if options else "")


def _about(thing: Any) -> str:
    """First line of what a class, a function, or the function inside an object says of itself."""
    if isinstance(getattr(thing, "about", None), str):
        return str(thing.about)
    if not isinstance(thing, type) and not inspect.isroutine(thing):
        thing = next((v for v in vars(thing).values() if inspect.isroutine(v)), thing)
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "")
