"""The form of what commands print with ``--json``, for documents, editors and tests: nothing else is printed."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..envelope import SCHEMA
from .files import Export, Import, Kinds, Merge, Split, Stream
from .passes import Binarize, Factorize, Prune, Quantize, Several, Simplify, Sparsify, Train
from .reading import Bench, Bisect, Check, Compare, Env, Evaluate, Groups, Inspect, Passes
from .searches import Compress, Presets, Searched, Swept
from .shared import Answer, Failure, Judged, Ran, Told

__all__ = ["ANSWERS", "Answer", "Kinds", "Presets", "form_of", "json_schema", "model_of"]

_FORMS: tuple[type[Answer], ...] = (
    *(Bench, Binarize, Bisect, Check, Compare, Compress, Env, Evaluate, Export, Factorize),
    *(Groups, Import, Inspect, Merge, Passes, Prune, Quantize, Searched, Several, Simplify, Sparsify, Split),
    *(Stream, Swept, Train),
)
ANSWERS = {get_args(one.model_fields["command"].annotation)[0]: one for one in _FORMS}
"""By command."""


def form_of(answer: dict[str, Any]) -> type[Answer]:
    """Which of the forms an answer has."""
    if "presets" in answer:
        return Presets
    if answer.keys() & {"targets", "sources"}:
        return Kinds
    return Failure if "error" in answer and "model" not in answer else ANSWERS[answer["command"]]


def model_of(name: str) -> type[Told]:
    """A form, or one that is part of others, by its name in the JSON Schema.

    Raises:
        KeyError: there is none.
    """
    found: dict[str, type[Told]] = {}
    left = [Told]
    while left:
        below = left.pop().__subclasses__()
        found |= {one.__name__: one for one in below}
        left += below
    return found[name]


def json_schema() -> dict[str, Any]:
    """JSON Schema of what any command may print."""
    forms: list[type[BaseModel]] = [*ANSWERS.values(), Presets, Kinds, Failure]
    every: list[type[BaseModel]] = [*forms, Judged, Ran]
    names, made = models_json_schema([(form, "validation") for form in every], ref_template="#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What intaglio prints with --json, {SCHEMA}",
        "oneOf": [names[form, "validation"] for form in forms],
        "$defs": made["$defs"],
    }
