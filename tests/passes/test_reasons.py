"""Why nothing is changed is told alike by every command, and is true."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from intaglio import Binarize, Factorize, PruneChannels, Quantize
from intaglio.graph.errors import NothingChanged
from intaglio.graph.model import Model
from intaglio.passes import Context
from intaglio.passes.base import Pass
from tests.passes.parsed import data_for, parsed

PASSES: dict[str, Pass] = {
    "w4": Quantize(scheme="w4"),
    "dynamic": Quantize(scheme="dynamic"),
    "binarize": Binarize(),
    "factorize": Factorize(target="params", keep=0.6),
    "prune": PruneChannels(target="params", keep=0.6),
}


def refused(name: str, model: Model) -> str:
    with pytest.raises(NothingChanged) as caught:
        PASSES[name].run(model, Context())
    return caught.value.why


@pytest.mark.parametrize("name", PASSES)
def test_layers_inside_branches_are_told(name: str) -> None:
    model = parsed(
        "bool c, float[N,64] x",
        "float[N,64] y",
        "float[64,64] w, float[64,64] v",
        "y = If (c) <then_branch = a () => (float[N,64] t) { t = MatMul(x, w) }, "
        "else_branch = b () => (float[N,64] e) { e = MatMul(x, v) }>",
    )
    assert "inside If 'y'" in refused(name, model)


@pytest.mark.parametrize("name", sorted(PASSES.keys() - {"prune"}))
def test_a_cast_before_the_weight_is_told(name: str) -> None:
    half = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    model = parsed("float[N,64] x", "float[N,64] y", "float16[64,64] w", "v = Cast <to=1> (w) y = MatMul(x, v)", w=half)
    assert "its weight is computed by Cast 'v' from constants" in refused(name, model)


@pytest.mark.parametrize("scheme", ["int8", "fp16", "bf16", "dynamic"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_another_type_is_told(scheme: str, dtype: str) -> None:
    name = {"float16": "float16", "float64": "double"}[dtype]
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(dtype)
    model = parsed(f"{name}[N,64] x", f"{name}[N,64] y", f"{name}[64,64] w", "y = MatMul(x, w)", w=weight)
    data = data_for(model, x=weight[:8])
    with pytest.raises(NothingChanged) as caught:
        Quantize(scheme=scheme).run(model, Context(data=data))
    assert f"MatMul 'y': its weights are {dtype}, and only float32 is converted" in caught.value.why


@pytest.mark.parametrize("name", sorted(PASSES.keys() - {"prune"}))
def test_a_network_without_matrices_is_told(name: str) -> None:
    model = parsed("float[N,64] x", "float[N,64] y", "float[64] w", "a = Mul(x, w) y = Relu(a)")
    assert refused(name, model) == "it has no layers: no node multiplies by a matrix of constant floats"


@pytest.mark.parametrize("name", sorted(PASSES.keys() - {"prune"}))
def test_unknown_operators_with_matrices_are_told(name: str) -> None:
    model = parsed("float[N,64] x", "float[N,64] y", "float[64,64] w", "y = Relu(x)")
    node = onnx.helper.make_node("Twist", ["x", "w"], ["z"], domain="com.example")
    model.graph.node.append(node)
    model.graph.output.add(name="z")
    model.proto.opset_import.add(domain="com.example", version=1)
    model.weights["w"] = np.ones((64, 64), np.float32)
    assert "Twist 'z': nothing is known of the operator com.example:Twist" in refused(name, model)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_what_a_classical_learner_holds_is_told(name: str) -> None:
    model = parsed("float[N,4] x", "float[N,1] y", "", "y = Relu(x)")
    node = onnx.helper.make_node("LinearRegressor", ["x"], ["y"], "rule", domain="ai.onnx.ml", coefficients=[0.5] * 4)
    model.graph.node[0].CopyFrom(node)
    model.proto.opset_import.add(domain="ai.onnx.ml", version=3)
    assert "what LinearRegressor 'rule' learned stands in attributes" in refused(name, model)


@pytest.mark.parametrize("name", ["w4", "binarize"])
def test_a_computed_bias_is_told(name: str) -> None:
    model = parsed("float[N,64] x", "float[N,64] y", "float[64,64] w", "c = ReduceMax <axes=[1]> (x) y = Gemm(x, w, c)")
    assert "Gemm 'y': its bias is computed" in refused(name, model)
