"""Bodies of functions in the place of calls."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from intaglio.graph.errors import BadModel
from intaglio.graph.io.inline import inlined

TEXT = """
    <ir_version: 9, opset_import: ["" : 17, "mine" : 1]>
    g (float[N,4] x) => (float[N,4] y) { h = mine.Twice (x) y = mine.Less (h) }
    <domain: "mine", opset_import: ["" : 17]> Twice (a) => (b) { b = Add (a, a) }
    <domain: "mine", opset_import: ["" : 17, "mine" : 1]> Less (a) => (b) { c = mine.Twice (a) b = Sub (a, c) }"""


@pytest.mark.parametrize("only", [None, [("mine", "Twice")]], ids=["all", "one"])
def test_calls_give_what_their_bodies_do(only: list[tuple[str, str]] | None) -> None:
    proto = parser.parse_model(TEXT)
    made = inlined(proto, only)
    assert [f.name for f in made.functions] == ([] if only is None else ["Less"])
    assert [n.op_type for n in made.graph.node] == (["Add", "Add", "Sub"] if only is None else ["Add", "Less"])
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    there, here = (np.asarray(ReferenceEvaluator(m).run(None, {"x": x})) for m in (proto, made))
    np.testing.assert_array_equal(there, here)


OTHER = TEXT.replace('"" : 17, "mine"', '"" : 18, "mine"', 1)


def test_functions_of_another_operator_set_are_told() -> None:
    for only in (None, [("mine", "Twice")]):
        with pytest.raises(BadModel, match="cannot be written out"):
            inlined(parser.parse_model(OTHER), only)
