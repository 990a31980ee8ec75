"""The document on networks trained with bits tells what the table of published operators holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.passes.binarize.trained.forms import FORMS
from tests.passes.binarize.trained.published import MAPPINGS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "binary_networks.md"


def rows() -> dict[str, str]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: line.replace("\\|", "|") for line in lines}


@pytest.mark.parametrize("name", list(MAPPINGS))
def test_every_published_operator_has_its_row_and_its_source(name: str) -> None:
    one = MAPPINGS[name]
    for part in (one.activations, one.weights, one.folded, one.beside, ", ".join(f"`{o}`" for o in one.operators)):
        assert part in rows()[name]
    assert f"- `{name}`: {one.source}." in DOCUMENT.read_text()


def test_every_form_has_its_row() -> None:
    assert {*FORMS, "standard"} <= rows().keys()
