"""Options checked against their pydantic model, with errors that say what, why and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .errors import UsageError
from .spec import near

Model = TypeVar("Model", bound=BaseModel)
_LIMITS = {"gt": "above", "ge": "not below", "lt": "below", "le": "up to"}
_NOUNS = {
    **dict.fromkeys(("float", "greater", "less", "finite"), "a number"),
    **dict.fromkeys(("tuple", "list"), "a list"),
    "bool": "yes or no",
    "int": "a whole number",
    "string": "text",
}
"""What is wanted, by the first word of pydantic's types of errors."""


def checked(model: type[Model], values: Mapping[str, Any], whose: str) -> Model:
    """An instance of the model. ``whose`` options they are ends a sentence, such as ``criterion norm``.

    Raises:
        UsageError: an option does not exist, is missing, or has a value that it cannot have.
    """
    with telling(model, values, whose):
        return model(**values)


@contextmanager
def telling(model: type[BaseModel], values: Mapping[str, Any], whose: str = "") -> Iterator[None]:
    """What pydantic finds when an instance is made of the values, as a UsageError. Without ``whose`` names of options stand
    in backquotes, for who shows them to spell them in another way.
    """
    for key in values:
        if key not in model.model_fields:
            what = f"{whose or model.__name__} has no option {key!r}"
            raise UsageError(
                what, fix=near(key, model.model_fields, f"its options are {', '.join(sorted(model.model_fields))}")
            )
    try:
        yield
    except ValidationError as error:
        raise _told(model, values, error, whose) from error


def bounds(field: FieldInfo) -> dict[str, float]:
    """Limits by pydantic's names: gt, ge, lt, le."""
    return {kind: getattr(one, kind) for kind in _LIMITS for one in field.metadata if hasattr(one, kind)}


def unusable(name: str, error: ValidationError, limits: Mapping[str, Any] | None = None, *about: str) -> UsageError:
    """For the first value that the option of that name cannot have; ``about`` tells more of it."""
    first = error.errors(include_url=False)[0]
    given, context = first["input"], first.get("ctx", {})
    noun = _NOUNS.get(first["type"].partition("_")[0])
    wanted = noun and f"give {noun}"
    if noun == "a list" and isinstance(given, (str, int, float)):
        wanted = f"give a list: [{given}]"
    if first["type"] == "literal_error":
        wanted = near(str(given), re.findall("'(.+?)'", context["expected"]))
    elif within := [
        f"{word} {(limits or context)[kind]:g}" for kind, word in _LIMITS.items() if kind in (limits or context)
    ]:
        wanted = f"give {noun} {' and '.join(within)}"
    shown = f"{given:g}" if isinstance(given, float) else "nothing" if given is None else repr(given)
    what = f"{name} cannot be {shown}"
    return UsageError(what, why="" if wanted else _reason(first), fix="; ".join(filter(None, (wanted, *about))))


def _told(model: type[BaseModel], values: Mapping[str, Any], error: ValidationError, whose: str) -> UsageError:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return UsageError(f"the options of {whose or model.__name__} do not go together", why=_reason(first))
    key = str(first["loc"][0])
    field = model.model_fields[key]
    name = f"option {key} of {whose}" if whose else f"`{key}`{_inside(values.get(key), first['loc'][1:])}"
    about = f"{key}: {field.description}" if field.description else ""
    if first["type"] == "missing":
        whom = (
            f"{whose} needs its option {key}"
            if whose
            else f"{model.__name__.removesuffix('Options').lower()} needs `{key}`"
        )
        return UsageError(whom, fix=about or f"give {key}=VALUE")
    unless = "" if field.is_required() else f"{field.default} unless given"
    return unusable(name, error, bounds(field), *(about, unless) if whose else ())


def _inside(value: Any, path: Sequence[int | str]) -> str:
    """Which entry of a mapping is meant."""
    said = ""
    for step in path if isinstance(value, Mapping) else ():
        if not (step in value if isinstance(value, Mapping) else isinstance(value, (list, tuple))):
            break
        said += f"[{step}]" if isinstance(step, int) else f".{step}"
        value = value[step]
    return said


def _reason(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
