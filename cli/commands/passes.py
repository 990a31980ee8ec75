"""``intaglio passes``: everything that can be plugged in."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graph.errors import UsageError
from ...graph.registry import Registry
from ...graph.spec import near
from .. import console
from ..options import Debug, Json, option

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ...measure.run.native import Kernels
    from ...passes.options import Option

_MANY = 40


def passes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one, with its options.", show_default=False)
    ] = None,
    everything: Annotated[bool, option("--all", "Also list every operator that has a rule.")] = False,
    schema: Annotated[
        bool, option("--schema", "Print the JSON Schema of recipes, plug-ins included, for an editor.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List what can be plugged in: passes, criteria, metrics and more.

    With a NAME, such as prune or obspa: what it does, its options, and with --json their JSON Schema; of a preset the recipe. A plug-in that failed
    to load is listed with the reason. The last line tells whether the kernels for operators on
    bits were built, and which instruction set they use.

    Example: intaglio passes
    """
    from ...measure.run.native import kernels
    from ...passes.registries import REGISTRIES, registry
    from ...pipeline.recipe.presets import preset_text, presets

    if schema:
        _show_schema()
        return
    if name in presets():
        text = preset_text(str(name))
        console.emit({"kind": "preset", "name": name, "recipe": text}, lambda: console.line(text.rstrip()))
        return
    if name is not None:
        _show_one(name, [one for one in map(registry, REGISTRIES) if one.get(name) is not None])
        return
    listed: dict[str, list[dict[str, Any]]] = {}
    for one in map(registry, REGISTRIES):
        listed[one.kind] = [*listed.get(one.kind, ()), *_entries(one)]
    listed["preset"] = _presets()
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

    console.emit({"plugins": [e for entries in listed.values() for e in entries], "kernels": vars(found)}, show)


def _show_schema() -> None:
    import json

    from ...pipeline.recipe.schema import recipe_schema

    schema = recipe_schema()
    console.emit(schema, lambda: console.line(json.dumps(schema, indent=2)))


def _presets() -> list[dict[str, Any]]:
    from ...pipeline.recipe.load import load_recipe
    from ...pipeline.recipe.presets import presets

    told = {
        "kind": "preset",
        "works": True,
        "why": "",
        "options": {},
        "needs": [],
        "module": "intaglio.pipeline.recipe",
    }
    return [{**told, "name": name, "about": load_recipe(name).about} for name in presets()]


def _show_one(name: str, registries: list[Registry[Any]]) -> None:
    """A page for each thing of that name. Raises UsageError where there is none."""
    from ...passes.registries import REGISTRIES, registry
    from ...pipeline.recipe.presets import presets

    if not registries:
        for one in map(registry, REGISTRIES):
            if name in one.broken:
                raise UsageError(f"{one.kind} {name!r} could not be loaded", why=one.broken[name])
        known = {known for one in map(registry, REGISTRIES) for known in one} | set(presets())
        raise UsageError(
            f"nothing of the name {name!r} can be plugged in",
            fix=near(name, known, "intaglio passes --all lists what can"),
        )
    found = [(one, _options_model(one, name)) for one in registries]

    def show() -> None:
        for one, model in found:
            thing = one.entry(name).thing
            console.line(": ".join(filter(None, (f"{one.kind} {name}", _about(thing)))))
            for text in (_rest(thing), _needs(one.entry(name).needs)):
                if text:
                    console.line(f"\n{text}")
            if model is not None:
                _options_tables(model, "" if model is thing else name)
            console.line()

    told = [{**_entry(one, name), "options_schema": _schema(model) if model else None} for one, model in found]
    console.emit({"plugins": told}, show)


def _options_model(registry: Registry[Any], name: str) -> type[BaseModel] | None:
    """A pass is its own options."""
    entry = registry.entry(name)
    return entry.thing if hasattr(entry.thing, "model_json_schema") else entry.options


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """What is not there is refused, in options of plug-ins too."""
    return {**model.model_json_schema(), "additionalProperties": False}


def _options_tables(model: type[BaseModel], behind: str) -> None:
    """``behind`` is the name that the options stand behind, empty where they have flags of their own."""
    from ...passes.options import PANELS, options_of

    options = options_of(model)
    for panel in PANELS:
        rows = [
            (
                one.name,
                f"{behind}:{one.name}=" if behind else _flags(one),
                " ".join(filter(None, (_values(one), one.limits))),
                one.default,
                one.help,
            )
            for one in options
            if one.spelling.panel == panel
        ]
        if rows:
            console.line()
            console.table(panel, ("option", "command line", "value", "default", "what it does"), rows)


def _flags(one: Option) -> str:
    return ", ".join([target.flag for target in one.spelling.targets if target.flag] or filter(None, [one.flag]))


def _values(one: Option) -> str:
    return one.registered.registries[0].kind if one.registered else "yes|no" if one.type is bool else one.value


def _needs(needs: tuple[str, ...]) -> str:
    return f"It needs {', '.join(needs)}." if needs else ""


def _rest(thing: Any) -> str:
    """What a class or a function says of itself beyond its first line."""
    if not isinstance(thing, type) and not inspect.isroutine(thing):
        return ""
    return (inspect.getdoc(thing) or "").partition("\n")[2].partition("Raises:")[0].strip().replace("``", "")


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
