"""The JSON Schema of recipes, for editors: made of the fields of recipes and passes, those of plug-ins included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...passes.base import PASSES, Pass
from .recipe import Recipe

_VARIABLE = {"type": "string", "pattern": r"\$\{\w+\}"}
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def recipe_schema(names: list[str] | None = None) -> dict[str, Any]:
    """Of recipes whose passes have these names; of all that can be plugged in unless given."""
    schema = Recipe.model_json_schema()
    defined = schema.pop("$defs", {})
    defined = {name: _open(one) for name, one in defined.items() if name != Pass.__name__}
    passes = [_pass(PASSES[name], defined) for name in names or list(PASSES)]
    schema["properties"]["passes"]["items"] = {"anyOf": [{"type": "string"}, *passes]}
    schema = _open(schema)
    schema["properties"] |= {
        "include": {**_TEXTS, "description": "Files, or presets, that this one goes over."},
        "variables": {"type": "object", "description": "Defaults of ${NAME}; --set NAME=VALUE gives others."},
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe of intaglio"}
    return {**schema, **head, "$defs": defined}


def _pass(kind: type[Pass], defined: dict[str, Any]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    defined |= {name: one for name, one in schema.pop("$defs", {}).items()}
    schema = _open(schema)
    schema["properties"] = {"pass": {"const": kind.name, "description": schema["description"]}, **schema["properties"]}
    return {**schema, "required": ["pass", *schema.get("required", ())]}


def _open(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same, where a variable may stand for every value."""
    if "properties" not in schema:
        return dict(schema)
    values = {name: _or_variable(one) for name, one in schema["properties"].items()}
    return {**schema, "properties": values, "additionalProperties": False}


def _or_variable(value: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: value[key] for key in ("title", "description", "default") if key in value}
    rest = {key: one for key, one in value.items() if key not in said}
    return {**said, "anyOf": [rest, _VARIABLE]}
