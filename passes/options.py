"""Options of passes, each stated once: a field says what it means, what it may be, and how users spell it.

The commands' parameters, their help, the JSON Schema of recipes and ``intaglio passes NAME`` are made of the fields.
Modules with options import no algorithm, so that ``--help`` is fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from ..graph.errors import UsageError
from ..graph.options import bounds, telling
from ..graph.registry import owner
from ..graph.spec import spelled
from .registries import registry

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from ..graph.registry import Registry

Panel = Literal["target", "method", "data", "accuracy", "advanced", "output"]
PANELS: tuple[Panel, ...] = get_args(Panel)
VOCABULARY = "group, node or tensor names, operator types, or re:REGEX"


@dataclass(frozen=True)
class Target:
    """A flag that stands for two fields, what to reach and how much of it: ``--macs 0.5`` is target macs, keep 0.5.

    Without a ``unit`` the flag stands alone and keeps all. ``least`` is what less is taken for. A target of a ``field``
    has no flag: it is meant where that field is given and no other target.
    """

    name: str
    help: str = ""
    flag: str = ""
    unit: str = "fraction"
    least: float | None = None
    field: str = ""


BUDGETS = (
    Target("macs", "Keep this fraction of the MACs, such as 0.5.", "--macs"),
    Target("params", "Keep this fraction of the parameters.", "--params"),
    Target("size", "Keep this fraction of the file's bytes.", "--size"),
    Target("latency", "Keep this fraction of the time a run takes, measured here.", "--latency"),
)
"""What every pass that makes a model smaller can be asked for."""
DROP = Target(
    "drop",
    "Look for the smallest model that loses at most so many points of accuracy on --eval-data.",
    "--max-drop",
    unit="points",
    least=1e-9,
)
"""Of passes that search for a budget: ``keep`` is points then."""


@dataclass(frozen=True)
class Spelling:
    """How users meet a field, beside its type, help and limits: called by pydantic to tell the JSON Schema.

    ``flag`` is its name on the command line, None for none; ``old`` are names that go on working, unseen. ``shown`` is
    its default in words.
    """

    panel: Panel
    flag: str | None
    short: str
    unit: str
    shown: str
    old: tuple[str, ...]
    targets: tuple[Target, ...]

    def __call__(self, schema: dict[str, Any]) -> None:
        told: dict[str, Any] = {"panel": self.panel, "unit": self.unit, "flag": self.flag, "default_text": self.shown}
        schema.update({key: value for key, value in told.items() if value})
        if self.targets:
            schema["flags"] = {one.name: one.flag for one in self.targets if one.flag}


def option(
    default: Any,
    help: str,
    panel: Panel,
    *,
    flag: str | None = "",
    short: str = "",
    unit: str = "",
    shown: str = "",
    old: tuple[str, ...] = (),
    targets: tuple[Target, ...] = (),
    **limits: float,
) -> Any:
    """A field of ``Options``. ``limits`` are pydantic's ge, gt, le, lt; ``flag`` is the field's name unless given."""
    spelling = Spelling(panel, flag, short, unit, shown, old, targets)
    return Field(default, description=help, json_schema_extra=spelling, **limits)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Registered:
    """For options that name something registered: ``Annotated[str, Registered("intaglio.solvers")]``.

    Its options may stand behind the name, or the whole be a mapping: see ``Registry``. The registries of one or two entry
    point groups are imported when a name is looked up. ``also`` are patterns of words that mean something else.
    """

    group: str
    beside: str = ""
    _: KW_ONLY
    also: tuple[str, ...] = ()

    @property
    def registries(self) -> list[Registry[Any]]:
        return [registry(group) for group in (self.group, self.beside) if group]

    def means_else(self, spec: Any) -> bool:
        """Whether something is one of the words that name nothing registered."""
        return isinstance(spec, str) and any(re.fullmatch(also, spec) for also in self.also)

    def check(self, spec: Any) -> Any:
        if not isinstance(spec, (str, Mapping)):
            return spec
        if self.means_else(spec):
            return spec
        found = owner(spec, *self.registries)
        found[spec]
        return spelled(spec, found.kind)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        told = handler(schema)
        found = {name: one.entry(name).options for one in self.registries for name in one}
        words = [*self.also, *(name + "(:.+)?" * (options is not None) for name, options in found.items())]
        text = {"pattern": f"^({'|'.join(words)})$"}
        kinds = [{**one, **text} if one["type"] == "string" else one for one in told.get("anyOf", [told])]
        mappings = [_mapping(name, options, handler) for name, options in found.items()]
        return {"anyOf": [*kinds, *mappings], "examples": list(found)}


def _mapping(name: str, options: type[BaseModel] | None, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """The schema of something registered whose options stand beside its name."""
    told: dict[str, Any] = {}
    if options is not None:
        options.model_rebuild()
        told = handler.resolve_ref_schema(handler(options.__pydantic_core_schema__))
    return {
        **told,
        "type": "object",
        "properties": {"name": {"const": name}, **told.get("properties", {})},
        "required": ["name", *told.get("required", ())],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Entries:
    """For repeatable options whose entries may be texts such as ``conv1=16``; ``parse`` raises ValueError on others."""

    parse: Callable[[str], tuple[Any, ...]]
    form: str
    example: str

    def read(self, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, (list, tuple)):
            return values
        return tuple(self._one(value, str(info.field_name)) if isinstance(value, str) else value for value in values)

    def _one(self, text: str, field: str) -> tuple[Any, ...]:
        try:
            return self.parse(text)
        except ValueError as error:
            raise UsageError(
                f"cannot read `{field}` {text!r}", fix=f"write it like `{field}` {self.example}"
            ) from error

    def once(self, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [name for name, *_ in values]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"`{info.field_name}` gives {twice!r} twice")
        return values

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        read = core_schema.with_info_before_validator_function(self.read, handler(source))
        return core_schema.with_info_after_validator_function(self.once, read)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        told = handler(schema)
        text = {"type": "string", "description": self.form, "examples": [self.example]}
        return {**told, "items": {"anyOf": [text, told["items"]]}}


class Options(BaseModel):
    """Options of a pass, or of something registered: frozen, checked when made."""

    # Built late, as help asks for fields alone.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    if not TYPE_CHECKING:  # which knows the fields

        def __init__(self, **given: Any) -> None:
            """Raises UsageError, with names of options in backquotes."""
            for one in options_of(type(self)):
                for old in (flag.removeprefix("--").replace("-", "_") for flag in one.spelling.old):
                    if old in given and one.name not in given:
                        given[one.name] = given.pop(old)
            with telling(type(self), given):
                super().__init__(**given)


class LayerOptions(Options):
    """Which parts of a model a pass may change."""

    include: tuple[str, ...] = option((), f"Change only these: {VOCABULARY}. Repeatable.", "target", unit="name")
    exclude: tuple[str, ...] = option((), "Leave these as they are, likewise. Repeatable.", "target", unit="name")


class RoundedOptions(LayerOptions):
    """What is done for layers that lose much, by passes that give weights few bits."""

    protect: bool = option(
        True, "Without a limit tiny layers whose rounding makes most noise keep more bits.", "accuracy"
    )


Dialect = Literal["id", "ood", "noise", "distilled"]
MADE_UP = ("noise", "distilled")
"""Dialects of calibration that need no data."""


class CalibratedOptions(LayerOptions):
    """What calibration data is."""

    dialect: Dialect | None = option(
        None,
        "What calibration runs on: data like the training data, any data of the right shape, or none: made-up noise, or "
        "inputs distilled from what BatchNormalization kept, which needs torch and a second an image. Both need BatchNormalization; 512 and 128 "
        "samples unless --samples says how many.",
        "data",
        shown="id with data",
    )
    mirror: bool = option(True, "Add mirror images where there are few colour images.", "data")


class BudgetOptions(CalibratedOptions):
    """How much of a target is kept, for passes that have a field ``target``."""

    keep: float = option(
        0.5,
        "The fraction of the target that is kept, or the points of accuracy that may be lost.",
        "target",
        flag=None,
        unit="fraction",
        gt=0,
    )

    @model_validator(mode="after")
    def _fraction(self) -> BudgetOptions:
        if getattr(self, "target", "") != DROP.name and self.keep > 1:
            raise UsageError(f"`keep` cannot be {self.keep:g}", fix="give a number above 0 and up to 1")
        return self


@dataclass(frozen=True)
class Option:
    """One field as users meet it."""

    name: str
    field: FieldInfo

    @cached_property
    def spelling(self) -> Spelling:
        """Fields that were not made by ``option``, such as those of plug-ins, have a plain one."""
        extra = self.field.json_schema_extra
        return extra if isinstance(extra, Spelling) else Spelling("method", "", "", "", "", (), ())

    @property
    def help(self) -> str:
        return self.field.description or ""

    @property
    def flag(self) -> str:
        """Empty for a field that only targets stand for."""
        flag = self.spelling.flag
        return "" if flag is None else flag or "--" + self.name.replace("_", "-")

    @cached_property
    def type(self) -> Any:
        """The type of a value that is given."""
        return next(kind for kind in _union(self.field.annotation) if kind is not type(None))

    @property
    def repeated(self) -> bool:
        return get_origin(self.type) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def registered(self) -> Registered | None:
        return next((one for one in _annotations(self) if isinstance(one, Registered)), None)

    @property
    def value(self) -> str:
        """What stands for a value in help."""
        if self.type is bool:
            return ""
        entries = next((one for one in _annotations(self) if isinstance(one, Entries)), None)
        usual = "N" if self.type is int else "X" if self.type is float else "NAME"
        return entries.form if entries else "|".join(self.choices) or self.spelling.unit.upper() or usual

    @property
    def bounds(self) -> dict[str, float]:
        """Limits by pydantic's names: gt, ge, lt, le."""
        return bounds(self.field)

    @property
    def limits(self) -> str:
        """``0<x<=1``, or nothing."""
        limits = {kind: f"{limit:g}" for kind, limit in self.bounds.items()}
        below, above = limits.get("gt") or limits.get("ge", ""), limits.get("lt") or limits.get("le", "")
        less, more = "<" if "gt" in limits else "<=", "<" if "lt" in limits else "<="
        if not above:
            return f"x{less.replace('<', '>')}{below}" if below else ""
        return f"{below}{less}x{more}{above}" if below else f"x{more}{above}"

    @property
    def default(self) -> str:
        """The default in words; empty where nothing is the default."""
        if self.field.is_required():
            return "required"
        value = self.field.get_default()
        if self.spelling.shown or value is None or value == ():
            return self.spelling.shown
        return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def options_of(options: type[BaseModel]) -> list[Option]:
    """The fields of a class in the order of their panels, those that others have too behind its own."""
    fields = [Option(name, field) for name, field in options.model_fields.items()]
    shared = {
        one.name: sum(one.name in getattr(base, "model_fields", ()) for base in options.__mro__) for one in fields
    }
    return sorted(fields, key=lambda one: (PANELS.index(one.spelling.panel), shared[one.name]))


def reworded(error: UsageError, spelled: Callable[[str], str]) -> UsageError:
    """The same with the names of fields, which stand in backquotes, as the user spells them."""
    what, why, fix = (re.sub(r"`(\w+)`", lambda m: spelled(m[1]), text) for text in (error.what, error.why, error.fix))
    return type(error)(what, why=why, fix=fix)


def _union(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _annotations(one: Option) -> Iterator[Any]:
    """What is annotated to the field or to its entries."""
    yield from one.field.metadata
    for entry in (*_union(one.field.annotation), *get_args(one.type)):
        if get_origin(entry) is Annotated:
            yield from entry.__metadata__
