"""Weights as matrices and back, and why weights are not used: the same for all who ask."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from intaglio.graph.layer import Layer
from intaglio.graph.layers import Layers, Unused
from intaglio.graph.model import Model
from intaglio.graph.traits import OPERATORS
from tests.passes.parsed import parsed, run_plainly

Shape = tuple[int, ...]


def built(op: str, operands: list[tuple[str, Shape | None]], kind: Any = np.float32, **attributes: Any) -> Model:
    """One node; operands with a shape are constants of this type."""
    domain, _, name = op.rpartition(":")
    rng = np.random.default_rng(0)
    node = helper.make_node(name, [n for n, _ in operands], ["y"], "layer", domain=domain, **attributes)
    inputs = [helper.make_tensor_value_info(n, 1, None) for n, shape in operands if shape is None]
    weights = {
        n: rng.integers(-9, 9, shape).astype(kind) / (1 if np.dtype(kind).kind == "i" else 7)
        for n, shape in operands
        if shape
    }
    graph = helper.make_graph([node], "net", inputs, [helper.make_tensor_value_info("y", 1, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return Model(proto, {n: np.asarray(w, dtype=kind) for n, w in weights.items()})


@st.composite
def weighted(draw: st.DrawFn) -> tuple[Model, Shape]:
    """A node of every kind that has weights, with any sizes. Also the shape that its matrices must have."""
    size = st.integers(1, 4)
    a, b, c, g = (draw(size) for _ in range(4))
    kernel = tuple(draw(st.lists(size, min_size=1, max_size=3)))
    taps = int(np.prod(kernel))
    kind = draw(st.sampled_from([np.float32, np.float16, np.float64]))
    x, flip = ("x", None), draw(st.booleans())
    matrix = (b, a) if flip else (a, b)
    cases: dict[str, tuple[str, list[tuple[str, Shape | None]], dict[str, Any], Shape]] = {
        "conv": ("Conv", [x, ("w", (g * a, b, *kernel))], {"group": g}, (g, a, taps * b)),
        "transposed": ("ConvTranspose", [x, ("w", (a, b + 1, *kernel))], {}, (1, b + 1, a * taps)),
        "depthwise": ("ConvTranspose", [x, ("w", (a, 1, *kernel))], {"group": a + 1}, (1, a, taps)),
        "gemm": ("Gemm", [x, ("w", matrix)], {"transB": int(flip), "alpha": draw(st.sampled_from([1.0, -2.0, 0.5]))}, (1, b, a)),
        "gemm on the left": ("Gemm", [("w", matrix), x], {"transA": int(flip)}, (1, a, b)),
        "matmul": ("MatMul", [x, ("w", (a, b))], {}, (1, b, a)),
        "matmul on the left": ("MatMul", [("w", (a, b)), x], {}, (1, a, b)),
        "stack": ("MatMul", [x, ("w", (c, a, b))], {}, (1, b, c * a)),
        "stack on the left": ("MatMul", [("w", (c, a, b)), x], {}, (1, a, c * b)),
        "table": ("Gather", [("w", (a, b)), x], {}, (1, b, a)),
        "recurrent": ("LSTM", [x, ("w", (c, 4 * a, b)), ("r", None)], {"hidden_size": a}, (1, 4 * a, c * b)),
    }  # fmt: skip
    op, operands, attributes, shape = cases[draw(st.sampled_from(sorted(cases)))]
    return built(op, operands, kind, **attributes), shape


@settings(max_examples=200, deadline=None)
@given(weighted())
def test_a_weight_comes_back_from_its_matrices_bit_by_bit(drawn: tuple[Model, Shape]) -> None:
    model, shape = drawn
    (layer,) = Layers(model).weighted
    weight = model.weights["w"]
    matrix = layer.matrix(weight)
    assert matrix.shape == shape == (layer.groups, layer.outputs, layer.columns)
    assert layer.columns == layer.channels * layer.positions
    back = layer.weight_like(matrix, weight)
    assert back.dtype == weight.dtype
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, weight)
    numbers = np.arange(weight.size, dtype=np.int32).reshape(weight.shape)
    folded = layer.folded(numbers)
    assert folded.dtype == numbers.dtype
    np.testing.assert_array_equal(layer.unfolded(folded, weight.shape), numbers)
    if layer.window is None:  # each row is one index of the axis
        for row in range(layer.outputs):
            assert set(folded[0, row]) == set(np.take(numbers, row, axis=layer.axis).ravel())


def test_looking_up_rows_of_a_table_takes_columns_of_its_matrix() -> None:
    model = parsed("int64[3] x", "float[3, 5] y", "float[7, 5] w", "y = Gather(w, x)")
    (layer,) = Layers(model).weighted
    index = np.array([6, 0, 3])
    rows = np.eye(7)[index] @ layer.matrix(model.weights["w"])[0].T
    np.testing.assert_array_equal(run_plainly(model, {"x": index}, ["y"])["y"], rows.astype(np.float32))


UNUSED: dict[str, tuple[str, str, str, str]] = {
    "computed": ("float[N,2,6] x, float[4,2,3] v", "float[1] w", "y = Conv(x, v)", "computed: its weight is computed"),
    "from constants": ("float[N,4] x", "float[4,5] w", "v = Abs(w) y = MatMul(x, v)", "derived: its weight is computed by Abs 'v' from constants"),
    "behind two nodes": (
        "float[N,4] x", "float[5,4] w", "u = Transpose(w) v = Abs(u) y = Gemm(x, v)",
        "derived: its weight is computed by Abs 'v' from constants",
    ),
    "dequantized": (
        "float[N,4] x", "float s, int8[4,5] w", "v = DequantizeLinear(w, s) y = MatMul(x, v)",
        "integer: its weight is computed by DequantizeLinear 'v' from integers: quantized or binarized before",
    ),
    "cast and scaled": (
        "float[N,4] x", "float s, int8[4,5] w", "u = Cast <to=1> (w) v = Mul(u, s) y = MatMul(x, v)",
        "integer: its weight is computed by Mul 'v' from integers: quantized or binarized before",
    ),
    "integers": (
        "uint8[N,4] x", "int8[4,5] w", "y = MatMulInteger(x, w)",
        "integer: it multiplies by integers: quantized or binarized before",
    ),
    "integer matrix": ("int32[N,4] x", "int32[4,5] w", "y = MatMul(x, w)", "type: its weight is int32"),
    "a vector": ("float[N,4] x", "float[4] w", "y = MatMul(x, w)", "form: its weight is a vector"),
    "columns": ("int64[N] x", "float[4,5] w", "y = Gather <axis=1> (w, x)", "form: it looks up columns of its table, not rows"),
    "einsum": (
        "float[N,4] x", "float[4,5] w", 'y = Einsum <equation="nk,km->nm"> (x, w)',
        "form: no pass changes weights of Einsum",
    ),
    "inside": (
        "bool c, float[N,4] x", "float[4,5] w",
        "y = If (c) <then_branch = a () => (float[N,5] t) { t = MatMul(x, w) }, "
        "else_branch = b () => (float[N,5] e) { u = Relu(x) e = MatMul(u, w) }>",
        "inside: it is inside If 'y', whose branch --input or --shape may decide",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSED)
def test_a_weight_that_is_not_used_has_the_true_reason(name: str) -> None:
    inputs, weights, nodes, told = UNUSED[name]
    rng = np.random.default_rng(0)
    kind = next((k for k in ("int8", "int32") if f"{k}[4,5] w" in weights), "float32")
    w = {"w": rng.integers(-9, 9, (4, 5)).astype(kind)} if kind != "float32" else {}
    model = parsed(inputs, "float y", weights, nodes, **w)
    found = Layers(model).found
    assert {f"{one.kind}: {one.reason}" for one in found if isinstance(one, Unused)} == {told}
    assert len(found) == (2 if name == "inside" else 1)


def test_weights_in_types_that_numpy_does_not_calculate_in_are_told() -> None:
    (found,) = Layers(built("MatMul", [("x", None), ("w", (4, 5))], ml_dtypes.bfloat16)).found
    assert isinstance(found, Unused)
    assert found.reason == "its weight is bfloat16, in which numpy does not calculate"


@pytest.mark.parametrize("nodes", ["y = MatMul(x, z)", "h = MatMul(x, z) y = Softmax(h)", "y = Gather(x, i)"])
def test_products_of_activations_have_no_weights(nodes: str) -> None:
    model = parsed("float[2,3,4] x, float[2,4,3] z, int64[1] i", "float y", "", nodes)
    assert Layers(model).found == ()


@pytest.mark.parametrize("op", sorted(op for op, known in OPERATORS.items() if known.weights))
def test_every_operator_with_weights_is_a_layer_or_has_a_reason(op: str) -> None:
    for axes in (1, 2, 3, 4):
        for operand in OPERATORS[op].weights:
            operands: list[tuple[str, Shape | None]] = [(name, None) for name in "abc"]
            operands[operand] = ("w", (4, 4, 4, 4)[:axes])
            found = Layers(built(op, operands)).found
            if op == "Gather" and axes != 2:
                assert not found  # no table, but a choice of constants
                continue
            (one,) = found
            assert one.reason if isinstance(one, Unused) else one.weight == "w"


def test_layers_that_cannot_be_fitted_say_why() -> None:
    model = parsed(
        "float[4,3] x, float[5] b, int64[2] i",
        "float y",
        "float[3,5] w, float[7,4] v, float[2,3,3] s, float[9,5] t, float[3,3,1] d",
        "a = Gemm(x, w, b) c = MatMul(v, x) e = MatMul(x, s) f = Gemm <transA=1> (a, a) g = Gather(t, i) "
        "h = Unsqueeze(x, i) k = ConvTranspose(h, d) y = Identity(a)",
    )
    told = {one.node: one.unfit for one in Layers(model).weighted}
    assert told == {
        "a": "its bias is computed",
        "c": "its left factor is a constant",
        "e": "its weight is a batch of matrices",
        "g": "it looks up rows of a table",
        "k": "it is a transposed convolution",
    }
    assert not len(Layers(model))


def test_layers_know_their_nodes() -> None:
    model = parsed("float[N,4] x", "float y", "float[4,5] w, float[5] b", "r = Relu(x) h = MatMul(r, w) y = Add(h, b)")
    (layer,) = Layers(model)
    assert isinstance(layer, Layer)
    assert (layer.node, layer.place, layer.x, layer.output) == ("h", 1, "r", "y")
    assert model.graph.node[layer.place].output[0] == layer.node
