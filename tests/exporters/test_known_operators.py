"""Every operator that a rule knows is written for every target that we write ourselves, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.exporters import EXPORTERS, CannotExport
from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import from_proto
from intaglio.graph.lazy import absent
from intaglio.graph.model import Model
from tests.graph.coupling import bit_examples as _bit_examples  # noqa: F401  they join the table
from tests.graph.coupling import foreign_examples as _foreign_examples  # noqa: F401  the same
from tests.graph.coupling.examples import EXAMPLES, Example


def refused(target: str, model: Model, place: Path) -> str:
    """What was refused; empty where all was written."""
    try:
        EXPORTERS[target].write(model, place)
    except (CannotExport, BadModel) as told:  # of an operator set that ONNX Runtime does not have yet
        return f"{told.what} {told.why}"
    return ""


@pytest.mark.parametrize("target", ["c", "tflite", "torch"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_an_operator_is_written_or_refused_by_name(tmp_path: Path, example: Example, target: str) -> None:
    if absent(EXPORTERS[target].imports):
        pytest.skip(f"{target} needs a package that is not installed")
    model, place = from_proto(example.model()), tmp_path / "artifact"
    what = refused(target, model, place)
    if what:
        assert "IR version" in what or any(node.op_type in what for node in model.graph.node)
    else:
        assert place.exists()
