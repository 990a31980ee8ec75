"""The operators' definitions in standard operators compute what the operators mean, in every operator set."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from intaglio.kernels.operators import DOMAIN, OPERATORS, VERSION, attach, definition

from .cases import CASES, Case, cases, run

OPSETS = (13, 15, 17, 18, 20, 21, 23)


def test_every_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("op", OPERATORS)
@given(data=st.data(), opset=st.sampled_from(OPSETS), optimize=st.booleans())
@settings(max_examples=15, deadline=None)
def test_definition_computes_the_operator(op: str, data: st.DataObject, opset: int, optimize: bool) -> None:
    case: Case = data.draw(cases(op))
    case.check(run(case.model(opset), case.feed(), optimize=optimize))


@pytest.mark.parametrize("op", OPERATORS)
@given(data=st.data())
@settings(max_examples=3, deadline=None)
def test_weights_may_be_inputs(op: str, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    everything = tuple(case.inputs)
    case.check(run(case.model(fed=everything), case.feed(everything)))


@pytest.mark.parametrize("op", OPERATORS)
@given(data=st.data())
@settings(max_examples=2, deadline=None)
def test_the_reference_evaluator_of_onnx_agrees(op: str, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    (got,) = onnx.reference.ReferenceEvaluator(case.model()).run(None, case.feed())
    case.check(np.asarray(got))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("opset", OPSETS)
@given(data=st.data())
@settings(max_examples=1, deadline=None)
def test_models_pass_the_checker_and_can_be_inlined(op: str, opset: int, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    model = case.model(opset)
    onnx.checker.check_model(model, full_check=True)
    inlined = onnx.inliner.inline_local_functions(model)
    assert not inlined.functions
    case.check(run(inlined, case.feed()))


@pytest.mark.parametrize("op", OPERATORS)
@given(data=st.data())
@settings(max_examples=3, deadline=None)
def test_element_types_are_inferred(op: str, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    model = case.model()
    model.graph.output[0].ClearField("type")
    kind = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type.tensor_type
    assert kind.elem_type == helper.np_dtype_to_tensor_dtype(case.expected.dtype)


def test_attaching_twice_changes_nothing_and_gives_only_what_is_used() -> None:
    model = _model("BMaxPool")
    attach(model)
    once = model.SerializeToString(deterministic=True)
    attach(model)
    assert model.SerializeToString(deterministic=True) == once
    assert [f.name for f in model.functions] == ["BMaxPool"]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17), (DOMAIN, VERSION)]
    assert model.ir_version >= 8

    del model.graph.node[:]
    attach(model)
    assert not model.functions
    assert [o.domain for o in model.opset_import] == [""]


def test_definitions_of_others_stay_and_stale_ones_are_replaced() -> None:
    model = _model("BGemm")
    other = definition("BGemm")
    other.domain = "elsewhere"
    stale = definition("BGemm")
    del stale.node[:]
    model.functions.extend([other, stale])
    attach(model)
    assert [(f.domain, len(f.node) > 0) for f in model.functions] == [("elsewhere", True), (DOMAIN, True)]


def test_nodes_in_branches_count() -> None:
    inner = helper.make_graph(
        [helper.make_node("BitPack", ["x", "t"], ["b"], domain=DOMAIN, perm=[0])], "branch", [], []
    )
    outer = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([outer], "g", [], []), opset_imports=[helper.make_opsetid("", 17)])
    attach(model)
    assert [f.name for f in model.functions] == ["BitPack"]


def _model(op: str) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], ["y"], domain=DOMAIN)
    return helper.make_model(
        helper.make_graph([node], "g", [], []), opset_imports=[helper.make_opsetid("", 17)], ir_version=7
    )
