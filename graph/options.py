"""Options checked against their pydantic model, with errors that say what, why and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import UsageError
from .spec import near

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], values: Mapping[str, Any], whose: str) -> Model:
    """An instance of the model. ``whose`` options they are ends a sentence, such as ``criterion norm``.

    Raises:
        UsageError: an option does not exist, is missing, or has a value that it cannot have.
    """
    for key in values:
        if key not in model.model_fields:
            raise UsageError(f"{whose} has no option {key!r}", fix=near(key, model.model_fields, "its options are"))
    try:
        return model(**values)
    except ValidationError as error:
        raise _told(model, error.errors()[0], whose) from error


def _told(model: type[BaseModel], error: Any, whose: str) -> UsageError:
    why = error["msg"].removeprefix("Value error, ")
    why = why[:1].lower() + why[1:]
    if not error["loc"]:
        return UsageError(f"the options of {whose} do not go together", why=why)
    key = str(error["loc"][0])
    field = model.model_fields[key]
    about = f"{key}: {field.description}" if field.description else ""
    if error["type"] == "missing":
        return UsageError(f"{whose} needs its option {key}", fix=about or f"give {key}=VALUE")
    unless = "" if field.is_required() else f"; {field.default} unless given"
    return UsageError(f"option {key} of {whose} cannot be {error['input']!r}", why=why, fix=about + unless)
