"""Folding BatchNormalization: the outputs stay, the nodes go, and what cannot be folded is left with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import to_bytes, to_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import PASSES
from intaglio.passes.simplify import FoldBatchNorm, fold_batch_norm, with_biases

Arrays = dict[str, np.ndarray]
MEAN = [0.485, 0.456, 0.406]
SPREAD = [0.229, 0.224, 0.225]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name=f"{op}_{outputs}", **attributes)


def norm(inputs: str = "a", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return node("BatchNormalization", f"{inputs} gamma beta mean variance", outputs, **attributes)


def normal(channels: int, dtype: str = "float32") -> Arrays:
    """Parameters far from the neutral ones, with negative factors."""
    rng = np.random.default_rng(channels)
    return {
        "gamma": rng.uniform(-2, 2, channels).astype(dtype),
        "beta": rng.standard_normal(channels).astype(dtype),
        "mean": rng.standard_normal(channels).astype(dtype),
        "variance": rng.uniform(0.2, 3, channels).astype(dtype),
    }


def weights(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    arrays: Arrays,
    x: Sequence[int],
    outputs: Sequence[str] = ("y",),
    dtype: str = "float32",
    opset: int = 17,
) -> Model:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(inferred)
    return from_proto(inferred)


def outputs(model: Model, x: np.ndarray) -> dict[str, np.ndarray]:
    return run(open_session(model, optimize=False), {"x": x})


def assert_same(before: Model, after: Model, rtol: float = 2e-5) -> None:
    """Equal up to ``rtol`` of the largest value, on random inputs of the declared shape."""
    onnx.checker.check_model(to_proto(after), full_check=True)
    value = before.graph.input[0].type.tensor_type
    shape = [d.dim_value for d in value.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(helper.tensor_dtype_to_np_dtype(value.elem_type))
    expected, found = outputs(before, x), outputs(after, x)
    assert expected.keys() == found.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=rtol * np.abs(expected[name]).max())


def types(model: Model) -> list[str]:
    return [n.op_type for n in model.graph.node]


def assert_folds(before: Model, left: Sequence[str], rtol: float = 2e-5) -> Model:
    """One BatchNormalization goes, ``left`` are the operators then, and the given model is as it was."""
    proto, arrays = before.proto.SerializeToString(), dict(before.weights)
    values = {name: w.tobytes() for name, w in arrays.items()}
    after, count = fold_batch_norm(before)
    assert count == 1
    assert types(after) == list(left)
    assert_same(before, after, rtol)
    assert before.proto.SerializeToString() == proto
    assert all(before.weights[name] is arrays[name] for name in arrays)
    assert {name: w.tobytes() for name, w in before.weights.items()} == values
    used = {name for n in after.graph.node for name in n.input}
    assert set(after.weights) <= used
    assert not any(w.flags.writeable for w in after.weights.values())
    made = {o for n in after.graph.node for o in n.output}
    assert {v.name for v in after.graph.value_info} <= made
    return after


def assert_stays(before: Model, reason: str) -> None:
    report = FoldBatchNorm().run(before)
    assert not report.changed
    assert report.model is before
    assert list(report.details["left"].values()) == [reason]
    after, count = fold_batch_norm(before)
    assert count == 0
    assert to_bytes(after) == to_bytes(before)


@given(
    op=st.sampled_from(["Conv", "ConvTranspose"]),
    axes=st.integers(1, 3),
    groups=st.integers(1, 4),
    inside=st.integers(1, 3),
    outside=st.integers(1, 3),
    biased=st.booleans(),
    stride=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_convolutions_of_any_shape_and_grouping_take_it_up(
    op: str, axes: int, groups: int, inside: int, outside: int, biased: bool, stride: int
) -> None:
    """Also depthwise ones, where each group has one channel."""
    kernel = [3, 2, 3][:axes]
    rows = (groups * outside, inside) if op == "Conv" else (groups * inside, outside)
    arrays = {"w": weights(*rows, *kernel), **normal(groups * outside)}
    if biased:
        arrays["b"] = weights(groups * outside)
    layer = node(op, "x w b" if biased else "x w", "a", group=groups, pads=[1] * 2 * axes, strides=[stride] * axes)
    before = model([layer, norm(epsilon=1e-3)], arrays, [2, groups * inside, 5, 6, 4][: axes + 2])
    after = assert_folds(before, [op])
    assert list(after.graph.node[0].output) == ["y"]


@given(
    trans_a=st.booleans(),
    trans_b=st.booleans(),
    alpha=st.sampled_from([1.0, 0.3]),
    beta=st.sampled_from([1.0, -0.7, 0.0]),
    third=st.sampled_from([None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)]),
)
@settings(max_examples=60, deadline=None)
def test_gemm_takes_it_up_with_every_attribute_and_bias(
    trans_a: bool, trans_b: bool, alpha: float, beta: float, third: tuple[int, ...] | None
) -> None:
    arrays = {"w": weights(5, 4) if trans_b else weights(4, 5), **normal(5)}
    if third is not None:
        arrays["c"] = weights(*third) if third else np.array(0.5, dtype=np.float32)
    inputs = "x w" if third is None else "x w c"
    layer = node("Gemm", inputs, "a", transA=int(trans_a), transB=int(trans_b), alpha=alpha, beta=beta)
    assert_folds(model([layer, norm()], arrays, [4, 3] if trans_a else [3, 4]), ["Gemm"])


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (3, 1), (1,)])
@pytest.mark.parametrize("swapped", [False, True])
def test_matmul_with_a_bias_takes_it_up(shape: tuple[int, ...], swapped: bool) -> None:
    arrays = {"w": weights(4, 5), "b": weights(*shape), **normal(5)}
    nodes = [node("MatMul", "x w", "m"), node("Add", "b m" if swapped else "m b", "a"), norm()]
    assert_folds(model(nodes, arrays, [3, 4]), ["MatMul", "Add"])


def test_a_matmul_without_bias_gets_one_where_the_batchnormalization_was() -> None:
    after = assert_folds(
        model([node("MatMul", "x w", "a"), norm()], {"w": weights(4, 5), **normal(5)}, [3, 4]), ["MatMul", "Add"]
    )
    assert [list(n.output) for n in after.graph.node] == [["a"], ["y"]]


def test_a_matmul_over_time_is_not_mistaken_for_one_over_channels() -> None:
    """Axis 1 is what BatchNormalization works on: with three axes that is not the matrix's, even at the same length."""
    before = model([node("MatMul", "x w", "a"), norm()], {"w": weights(4, 5), **normal(5)}, [2, 5, 4])
    assert_stays(before, "MatMul 'MatMul_a' is no matrix of weights and two-dimensional data")


def test_a_bias_that_makes_more_channels_than_the_matrix_has_stops_it() -> None:
    arrays = {"w": weights(4, 1), "b": weights(5), **normal(5)}
    before = model([node("MatMul", "x w", "m"), node("Add", "m b", "a"), norm()], arrays, [3, 4])
    assert_stays(before, "it has more channels than MatMul 'MatMul_m' makes")


def test_two_in_a_row_both_go() -> None:
    arrays = {"w": weights(4, 3, 3, 3), **normal(4)}
    before = model([node("Conv", "x w", "a"), norm("a", "b"), norm("b", "y")], arrays, [1, 3, 6, 6])
    after, count = fold_batch_norm(before)
    assert count == 2
    assert types(after) == ["Conv"]
    assert_same(before, after)


CONV = {"w": weights(4, 3, 1, 1), **normal(4)}
IMAGE = [2, 3, 4, 4]


def test_the_output_keeps_its_name_and_what_vanished_is_forgotten() -> None:
    before = model([node("Conv", "x w", "a"), norm("a", "b"), node("Relu", "b", "y")], CONV, IMAGE)
    assert {v.name for v in before.graph.value_info} >= {"a", "b"}
    after = assert_folds(before, ["Conv", "Relu"])
    assert {v.name for v in after.graph.value_info} == {"b"}
    assert list(after.graph.node[0].output) == ["b"]
    assert set(after.weights) == {"w", "Conv_a_bias"}


def test_a_layer_with_a_second_reader_keeps_its_batchnormalization() -> None:
    before = model([node("Conv", "x w", "a"), norm("a", "b"), node("Add", "a b", "y")], CONV, IMAGE)
    assert_stays(before, "its input is read elsewhere too")


def test_a_layer_that_the_caller_reads_keeps_its_batchnormalization() -> None:
    before = model([node("Conv", "x w", "a"), norm("a", "y")], CONV, IMAGE, outputs=["y", "a"])
    assert_stays(before, "its input is read elsewhere too")


def test_a_layer_that_a_subgraph_reads_keeps_its_batchnormalization() -> None:
    body = helper.make_graph([node("Neg", "a", "z")], "body", [], [helper.make_tensor_value_info("z", 1, None)])
    branch = node("If", "true", "c", then_branch=body, else_branch=_other(body))
    arrays = {**CONV, "true": np.array(True)}
    before = model([node("Conv", "x w", "a"), norm("a", "b"), branch, node("Add", "b c", "y")], arrays, IMAGE)
    assert_stays(before, "its input is read elsewhere too")


def _other(body: onnx.GraphProto) -> onnx.GraphProto:
    return helper.make_graph([node("Abs", "a", "z2")], "other", [], [helper.make_tensor_value_info("z2", 1, None)])


def test_a_weight_that_others_read_is_copied() -> None:
    arrays = {"w": weights(4, 3, 1, 1), "b": weights(4), **normal(4)}
    nodes = [node("Conv", "x w b", "a"), norm("a", "c"), node("Conv", "x w b", "d"), node("Add", "c d", "y")]
    after = assert_folds(model(nodes, arrays, IMAGE), ["Conv", "Conv", "Add"])
    assert after.weights["w"].tobytes() == arrays["w"].tobytes()
    assert set(after.weights) == {"w", "b", "w_folded", "b_folded"}


def test_parameters_that_two_share_serve_both() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        norm("a", "c"),
        node("Conv", "x w", "b"),
        norm("b", "d"),
        node("Mul", "c d", "y"),
    ]
    before = model(nodes, CONV, IMAGE)
    after, count = fold_batch_norm(before)
    assert count == 2
    assert_same(before, after)
    assert not {"gamma", "beta", "mean", "variance"} & set(after.weights)


def test_new_names_are_nobodys() -> None:
    arrays = {**CONV, "Conv_a_bias": weights(4, 1, 1)}
    before = model([node("Conv", "x w", "a"), norm("a", "b"), node("Add", "b Conv_a_bias", "y")], arrays, IMAGE)
    after = assert_folds(before, ["Conv", "Add"])
    assert after.weights["Conv_a_bias"].shape == (4, 1, 1)


@pytest.mark.parametrize("op", ["Relu", "Add"])
def test_what_is_no_layer_takes_nothing_up(op: str) -> None:
    before = model([node(op, "x" if op == "Relu" else "x x", "a"), norm()], normal(3), IMAGE)
    assert_stays(before, f"{op} feeds it")


def test_without_a_layer_before_it_stays_even_if_one_follows() -> None:
    """Padding is zero after the BatchNormalization, which no bias of the convolution can imitate."""
    arrays = {"w": weights(4, 3, 3, 3), **normal(3)}
    before = model([norm("x", "a"), node("Conv", "a w", "y", pads=[1, 1, 1, 1])], arrays, IMAGE)
    assert_stays(before, "no layer feeds it")


def test_computed_weights_and_parameters_stop_it() -> None:
    nodes = [node("Neg", "w", "v"), node("Conv", "x v", "a"), norm()]
    assert_stays(model(nodes, CONV, IMAGE), "the weights of Conv 'Conv_a' are computed")
    nodes = [
        node("Conv", "x w", "a"),
        node("Neg", "gamma", "g"),
        node("BatchNormalization", "a g beta mean variance", "y"),
    ]
    assert_stays(model(nodes, CONV, IMAGE), "its parameters are computed")


def test_in_training_mode_it_stays() -> None:
    nodes = [node("Conv", "x w", "a"), norm("a", "y new_mean new_variance", training_mode=1)]
    assert_stays(model(nodes, CONV, IMAGE), "it is in training mode")


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float16", 4e-3)])
def test_other_precisions_keep_theirs(dtype: str, rtol: float) -> None:
    arrays = {"w": weights(6, 4, dtype=dtype), "c": weights(6, dtype=dtype), **normal(6, dtype)}
    before = model([node("Gemm", "x w c", "a", transB=1), norm()], arrays, [5, 4], dtype=dtype)
    after = assert_folds(before, ["Gemm"], rtol)
    assert {w.dtype for w in after.weights.values()} == {np.dtype(dtype)}


def test_half_precision_data_with_single_precision_parameters_stays_half() -> None:
    arrays = {"w": weights(4, 3, 1, 1, dtype="float16"), **normal(4)}
    before = model([node("Conv", "x w", "a"), norm()], arrays, IMAGE, dtype="float16")
    after = assert_folds(before, ["Conv"], 4e-3)
    assert {w.dtype for w in after.weights.values()} == {np.dtype("float16")}


def test_what_half_precision_cannot_hold_stays_two_nodes() -> None:
    arrays = {"w": weights(4, 3, 1, 1, dtype="float16"), **normal(4, "float16")}
    arrays["w"] *= np.float16(1000)
    arrays["variance"][:] = 1e-5
    before = model([node("Conv", "x w", "a"), norm()], arrays, IMAGE, dtype="float16")
    assert_stays(before, "float16 cannot hold its product with the weights of Conv 'Conv_a'")


def test_a_dead_channel_with_no_variance_is_no_trouble() -> None:
    arrays = {"w": weights(4, 3, 1, 1), **normal(4)}
    arrays["w"][1] = 0
    arrays["variance"][1] = 0
    assert_folds(model([node("Conv", "x w", "a"), norm()], arrays, IMAGE), ["Conv"])


def test_the_pass_says_what_it_did() -> None:
    assert PASSES["fold"] is FoldBatchNorm
    nodes = [node("Conv", "x w", "a"), norm("a", "b"), node("Relu", "b", "c"), norm("c", "y")]
    report = PASSES["fold"]().run(model(nodes, CONV, IMAGE))
    assert report.changed
    assert report.details == {"folded": 1, "left": {"BatchNormalization_y": "Relu feeds it"}}


def test_every_layer_gets_a_bias_that_changes_nothing() -> None:
    arrays = {
        "w": weights(4, 3, 1, 1),
        "v": weights(4, 2, 2, 2),
        "b": weights(4),
        "m": weights(16, 5),
        "n": weights(5, 5),
    }
    nodes = [
        node("Conv", "x w", "a"),
        node("ConvTranspose", "a v", "c", group=2, strides=[2, 2]),
        node("Conv", "c w2 b", "d", strides=[4, 4]),
        node("Flatten", "d", "e"),
        node("Gemm", "e m", "f", beta=0.5),
        node("MatMul", "f n", "y"),
    ]
    before = model(nodes, {**arrays, "w2": weights(4, 4, 1, 1)}, IMAGE)
    after = with_biases(before)
    assert [len(n.input) for n in after.graph.node] == [3, 3, 3, 1, 3, 2]
    assert {n: w.shape for n, w in after.weights.items() if n not in before.weights} == {
        "Conv_a_bias": (4,),
        "ConvTranspose_c_bias": (4,),
        "Gemm_f_bias": (5,),
    }
    assert_same(before, after, 0)
    assert [len(n.input) for n in before.graph.node] == [2, 2, 3, 1, 2, 2]
    after.weights["Gemm_f_bias"] = np.ones(5, dtype=np.float32)
    x = weights(*IMAGE)
    shift = outputs(after, x)["y"] - outputs(before, x)["y"]
    np.testing.assert_allclose(shift, np.broadcast_to(arrays["n"].sum(axis=0), shift.shape), rtol=1e-3, atol=1e-3)


def test_a_trained_network_gives_the_same_logits_and_the_same_answers(shared_data: Path) -> None:
    before = load(shared_data / "resnet20-bn.onnx")
    after, count = fold_batch_norm(before)
    assert count == 19
    assert "BatchNormalization" not in types(after)
    exported = load(shared_data / "resnet20.onnx")
    with np.load(shared_data / "cifar10_test_first2000.npz", allow_pickle=False) as file:
        images, answers = file["x"][:500], file["y"][:500]
    x = (images.transpose(0, 3, 1, 2) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(SPREAD, (3, 1, 1))
    expected, found, other = (
        run(open_session(m), {"input": x.astype(np.float32)})["logits"] for m in (before, after, exported)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found, other, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert (found.argmax(axis=1) == answers).mean() > 0.89
