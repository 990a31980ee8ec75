"""Parameters of a command, made from the fields of its pass's options, and help that shows them in panels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, make_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from pydantic import BaseModel

from ..graph.errors import UsageError
from ..graph.registry import Registry
from ..graph.spec import split
from ..passes.options import PANELS, Option, Options, Target, options_of, reworded
from .command import Command

AnyOptions = TypeVar("AnyOptions", bound=Options)
_AMOUNTS = {"fraction": "  [0<x<=1]", "points": "  [x>=0]"}
"""What a target takes, by its unit."""
_WIDEST = 30
"""Help starts right of this column at the latest."""


def takes(command: Callable[..., None]) -> Callable[..., None]:
    """Hand a command its options as objects: it gets a parameter for each field of the classes that it names.

    A class is one of ``Options``, or a dataclass whose fields are annotated for typer. What several declare is one
    parameter, as the first declares it.
    """
    kinds = get_type_hints(command, include_extras=True)
    own = signature(command).parameters
    made: dict[str, Parameter] = {}
    for name, parameter in own.items():
        for one in _parameters(kinds[name], parameter):
            made.setdefault(one.name, one)

    @wraps(command)
    def run(**given: Any) -> None:
        command(**{name: _filled(kinds[name], name, given) for name in own})

    shown = {"__signature__": Signature(list(made.values())), "shown_as": Panels}
    vars(run).update(shown, __annotations__={name: one.annotation for name, one in made.items()})
    return run


def options_behind(registry: Registry[Any], panel: str) -> Any:
    """A dataclass of the options of all that comes with us in a registry, as texts: each checks its own."""
    found: dict[str, dict[str, Option]] = {}
    for name in registry.builtin:
        for one in options_of(registry.entry(name).options or BaseModel):
            found.setdefault(one.name, {})[name] = one
    return make_dataclass("Behind", [(name, _text_option(whose, panel), None) for name, whose in found.items()])


def _text_option(whose: Mapping[str, Option], panel: str) -> Any:
    """One flag for what several call by one name; each that means something else by it says so."""
    told: dict[str, list[str]] = {}
    for name, one in whose.items():
        told.setdefault(one.help, []).append(name)
    values = dict.fromkeys("yes|no" if one.type is bool else one.value for one in whose.values())
    shown = typer.Option(
        next(iter(whose.values())).flag,
        help="; ".join(f"{', '.join(names)}: {text}" for text, names in told.items()),
        metavar="|".join(values),
        show_default=False,
        rich_help_panel=panel,
    )
    return Annotated[str | None, shown]


def with_behind(spec: str, behind: Any) -> dict[str, Any]:
    """What was named, with the options that were given as flags."""
    name, values = split(spec, "target")
    given = {key: value for key, value in vars(behind).items() if value is not None}
    if twice := values.keys() & given.keys():
        raise UsageError(f"--{min(twice)} and {spec} say the same", fix="give one of them")
    return {"name": name, **values, **given}


def _parameters(kind: Any, parameter: Parameter) -> Iterator[Parameter]:
    if isinstance(kind, type) and issubclass(kind, Options):
        for one in options_of(kind):
            yield from _of_field(one)
    elif is_dataclass(kind):
        kinds = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(field.name, Parameter.KEYWORD_ONLY, annotation=kinds[field.name], default=default)
    else:
        yield parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY)


def _of_field(one: Option) -> Iterator[Parameter]:
    for target in one.spelling.targets:
        if target.flag:
            kind: Any = float if target.unit else bool
            told = target.help + _AMOUNTS.get(target.unit, "")
            yield _parameter(_name(target.flag), kind, [target.flag], one, told, value=target.unit.upper())
    if one.flag:
        told = f"{one.help}  [{bracket}]" if (bracket := _bracket(one)) else one.help
        kind = list[str] if one.repeated else one.type if one.type in (bool, int, float) else str
        yield _parameter(
            one.name, kind, [_switch(one), *filter(None, [one.spelling.short])], one, told, value=one.value
        )
        for place, old in enumerate(one.spelling.old):
            yield _parameter(_old(one, place), kind, [old], one, "", hidden=True)


def _parameter(
    name: str, kind: Any, flags: Sequence[str], one: Option, text: str, *, value: str = "", hidden: bool = False
) -> Parameter:
    shown = typer.Option(
        *flags,
        autocompletion=_completion(one) if text else None,
        help=text,
        metavar=value or None,
        show_default=False,
        hidden=hidden,
        rich_help_panel=one.spelling.panel,
    )
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, shown], default=None)


def _completion(one: Option) -> Callable[[str], list[str]] | None:
    """What a shell offers for a value: choices, or what is registered."""
    if not one.choices and one.registered is None:
        return None

    def complete(incomplete: str) -> list[str]:
        found = one.registered
        known = [*one.choices, *(name for each in (found.registries if found else ()) for name in each)]
        return [word for word in known if word.startswith(incomplete)]

    return complete


def _switch(one: Option) -> str:
    return f"{one.flag}/--no-{one.flag[2:]}" if one.field.default is True else one.flag


def _bracket(one: Option) -> str:
    default = one.default
    if one.type is bool:
        default = one.flag[2:] if one.field.default else ""
    default = f"({default})" if one.spelling.shown else default  # as typer does
    return "; ".join(filter(None, [default and f"default: {default}", one.limits]))


def _name(flag: str) -> str:
    return flag[2:].replace("-", "_")


def _old(one: Option, place: int) -> str:
    return f"{one.name}_{place}"


def _filled(kind: Any, name: str, given: Mapping[str, Any]) -> Any:
    if isinstance(kind, type) and issubclass(kind, Options):
        return options_from(kind, given)
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**{one.name: given[one.name] for one in fields(kind) if given[one.name] is not None})
    return given[name]


def options_from(options: type[AnyOptions], given: Mapping[str, Any]) -> AnyOptions:
    """The options that parameters stand for; what was not given keeps its default.

    Raises:
        UsageError: they contradict each other, or a value is not allowed; named as on the command line.
    """
    every = options_of(options)
    spelled = {one.name: one.flag for one in every}
    values: dict[str, Any] = {}
    for one in every:
        flags = {one.name: one.flag, **{_old(one, place): old for place, old in enumerate(one.spelling.old)}}
        asked = [name for name in flags if one.flag and given[name] is not None]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(flags[name] for name in asked)} are the same", fix="give one of them")
        if asked:
            values[one.name] = given[asked[0]]
    for one in every:
        if one.spelling.targets:
            target, flag = _target(one.spelling.targets, given, values, spelled)
            values |= {one.name: target.name, "keep": _amount(target, given)}
            spelled |= {one.name: flag, "keep": flag}
    try:
        return options(**values)
    except UsageError as error:
        raise reworded(error, lambda name: spelled.get(name, name)) from error


def _target(
    targets: Sequence[Target], given: Mapping[str, Any], values: Mapping[str, Any], spelled: Mapping[str, str]
) -> tuple[Target, str]:
    """The one target that was asked for, and its flag. Raises UsageError for none and several."""
    flags = {one: one.flag or spelled[one.field] for one in targets}
    asked = {one: given[_name(one.flag)] for one in targets if one.flag}
    chosen = [one for one, value in asked.items() if value is not None and value is not False]  # 0 is a value
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(flags[one] for one in chosen)} exclude each other", fix="give one of them")
    found = next(iter(chosen or [one for one in targets if one.field in values]), None)
    if found is None:
        raise UsageError(
            "no target was given", fix=f"say what to keep with one of {', '.join(flags.values())}, such as --macs 0.5"
        )
    return found, flags[found]


def _amount(target: Target, given: Mapping[str, Any]) -> float:
    if not target.flag or not target.unit:
        return 1.0
    amount: float = given[_name(target.flag)]
    return amount if target.least is None else max(amount, target.least)


class Panels(Command):
    """A command whose help shows options in named panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        found: dict[str, list[tuple[str, str]]] = {}
        for param in sorted(self.get_params(ctx), key=lambda param: not param.required):
            if record := param.get_help_record(ctx):
                panel = getattr(param, "rich_help_panel", None) or PANELS[-1]
                found.setdefault("arguments" if param.param_type_name == "argument" else panel, []).append(record)
        width = max(len(name) for rows in found.values() for name, _ in rows)
        for panel in ("arguments", *PANELS):
            if panel in found:
                with formatter.section(panel.capitalize()):
                    formatter.write_dl([(name.ljust(min(width, _WIDEST)), text) for name, text in found[panel]])
