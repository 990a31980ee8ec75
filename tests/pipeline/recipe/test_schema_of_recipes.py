"""The published JSON Schema, read by a validator of others, takes what the program takes and refuses what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from intaglio.pipeline.recipe.presets import preset_text, presets

ROOT = Path(__file__).resolve().parents[3]
jsonschema: Any = pytest.importorskip("jsonschema", reason="jsonschema validates what editors see")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads((ROOT / "docs/recipe.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("text", [*map(preset_text, presets()), (ROOT / "examples/small.yaml").read_text()])
def test_what_comes_with_the_package_is_valid(validator: Any, text: str) -> None:
    assert [one.message for one in validator.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "passes: [{pass: prune, kep: 0.5}]",
        "passes: [{pass: prune, keep: 0}]",
        "passes: [{pass: quantze}]",
        "passes: [{pass: quantize, scheme: w9x}]",
        "passes: quantize",
        "passses: [quantize]",
        "passes: [quantize]\ntarget: amr",
        "passes: [quantize]\nseed: -1",
        "passes: [quantize]\ndata: {samples: 0}",
        "passes: [quantize]\ngates: 3",
        "limits: {max_drop: -1}",
    ],
)
def test_what_the_program_refuses_is_marked(validator: Any, text: str) -> None:
    assert list(validator.iter_errors(yaml.safe_load(text)))
