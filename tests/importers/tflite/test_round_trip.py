"""What was written to a TFLite file and read again computes the same: every operator, in floats and in integers."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.exporters.tflite.convert import Ends, write
from intaglio.graph.model import Model
from intaglio.importers import Source
from intaglio.importers.tflite.convert import model_of
from intaglio.importers.tflite.operators import TABLE
from intaglio.importers.tflite.parse import parse
from intaglio.measure.litert.schema import OPTIONS
from intaglio.measure.run.session import open_session, run

from ...exporters.tflite.examples import EXAMPLES, Example
from ...exporters.tflite.test_operators import INTEGER, rounded

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

ANEW = {"FILL", "SHAPE", "REVERSE_V2", "FLOOR_DIV", "ADD_N", "REDUCE_ANY", "REDUCE_ALL"}
"""Operators whose options are known, and which are not read."""


def read_again(model: Model, ends: Ends | None = None) -> Model:
    return model_of(parse(write(model, ends)), Source("model.tflite", {})).model


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_floats_come_back(example: Example) -> None:
    model = example.model()
    again = read_again(model)
    assert [v.name for v in again.graph.input] == [v.name for v in model.graph.input]
    wanted, given = (run(open_session(one), example.feeds()) for one in (model, again))
    assert wanted.keys() == given.keys()
    for name in wanted:
        assert given[name].shape == wanted[name].shape
        np.testing.assert_allclose(given[name], wanted[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("example", INTEGER, ids=str)
def test_integers_come_back(example: Example) -> None:
    model = rounded(example)
    again = read_again(model)
    step = float(model.weights["so"])
    wanted, given = (run(open_session(one), example.feeds()) for one in (model, again))
    for name in wanted:
        assert given[name].shape == wanted[name].shape
        assert np.abs(given[name] - wanted[name]).max() < 2.01 * step


def test_every_operator_that_is_written_is_read() -> None:
    assert OPTIONS.keys() - ANEW <= TABLE.keys()
