"""Layers as matrices: rows times matrix plus offset is what ONNX Runtime computes at those places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.layer import Layer
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes.calibration.patches import outputs_at, patches, place_count, spread_places
from tests.passes.parsed import parsed, run_plainly

SAMPLES = 3


def lone(op: str, x: Sequence[int], weights: Mapping[str, np.ndarray], **attributes: Any) -> Model:
    """A network of one node whose operands after the first are constants."""
    node = helper.make_node(op, ["x", *weights], ["y"], **attributes)
    tensors = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    info = [helper.make_tensor_value_info("x", 1, x)], [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph([node], "net", *info, tensors)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def the_layer(model: Model) -> Layer:
    (layer,) = Layers(model)
    assert isinstance(layer, Layer)
    return layer


def one_of(model: Model, operand: int) -> Layer:
    """The layer of which this operand is the weight, whether it can be fitted or not."""
    return next(one for one in Layers(model).weighted if one.operand == operand)


def some_places(layer: Layer, x: np.ndarray, wanted: int) -> np.ndarray:
    samples = np.moveaxis(x, layer.x_axis, -1).shape[0]
    return spread_places(layer, x, wanted, np.arange(samples) * 7919)


def picked(y: np.ndarray, layer: Layer, places: np.ndarray) -> np.ndarray:
    """Outputs at places, one sample and one place after the other. Shapes: (groups, rows, outputs)."""
    moved = np.moveaxis(y, layer.y_axis, -1)
    moved = moved.reshape(len(moved), -1, moved.shape[-1])
    rows = np.stack([moved[s, p] for s in range(len(moved)) for p in places[s]])
    return rows.reshape(len(rows), layer.groups, -1).transpose(1, 0, 2)


def check(model: Model, layer: Layer, x: np.ndarray, wanted: int) -> None:
    """Both ways of looking at the layer agree with ONNX Runtime, and the matrix has the weight in it."""
    y = run_plainly(model, {"x": x}, [layer.output])[layer.output]
    places = some_places(layer, x, wanted)
    expected = picked(y, layer, places)
    weight = model.weights[layer.weight]
    matrix, offset = layer.matrix(weight), layer.offset(model)
    found = patches(layer, x, places) @ matrix.transpose(0, 2, 1)
    if offset is not None:
        found += offset[:, None]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(outputs_at(layer, y, places), expected)
    back = layer.weight_like(matrix, weight)
    np.testing.assert_array_equal(back, weight)
    assert back.dtype == weight.dtype
    if offset is not None and layer.bias is not None:
        np.testing.assert_allclose(layer.bias_like(offset, model.weights[layer.bias]), model.weights[layer.bias])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Model, int]:
    """One convolution of any kind, and how many places to look at."""
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    groups, inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel, strides, size = each(1, 3), each(1, 3), each(6, 8)
    attributes: dict[str, Any] = {"group": groups}
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if draw(st.booleans()):
        attributes["strides"] = strides
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    if auto in ("NOTSET", "VALID") and draw(st.booleans()):
        attributes["dilations"] = each(1, 2)
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    elif draw(st.booleans()):
        attributes["pads"] = each(0, 2) + each(0, 2)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = {"w": rng.standard_normal((groups * outputs, inputs, *kernel)).astype(np.float32)}
    if draw(st.booleans()):
        weights["b"] = rng.standard_normal(groups * outputs).astype(np.float32)
    model = lone("Conv", [SAMPLES, groups * inputs, *size], weights, **attributes)
    return model, draw(st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_a_convolution_is_its_matrix_times_its_rows(drawn: tuple[Model, int]) -> None:
    model, wanted = drawn
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    check(model, the_layer(model), x, wanted)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", range(4, 10))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_automatic_pads_go_to_the_side_that_onnx_says(auto: str, size: int, stride: int, kernel: int) -> None:
    weight = np.arange(1.0, kernel + 1, dtype=np.float32).reshape(1, 1, kernel)
    model = lone("Conv", [1, 1, size], {"w": weight}, auto_pad=auto, strides=[stride])
    check(model, the_layer(model), np.arange(1.0, size + 1, dtype=np.float32).reshape(1, 1, size), size)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_depthwise_convolution_has_one_matrix_for_each_channel(rank: int) -> None:
    rng = np.random.default_rng(rank)
    weights = {"w": rng.standard_normal((10, 1, *[3] * rank)), "b": rng.standard_normal(10)}
    model = lone(
        "Conv",
        [SAMPLES, 5, *[6] * rank],
        {n: w.astype(np.float32) for n, w in weights.items()},
        group=5,
        pads=[1] * 2 * rank,
    )
    layer = the_layer(model)
    assert layer.matrix(weights["w"]).shape == (5, 2, 3**rank)
    np.testing.assert_array_equal(layer.column_channels, np.repeat(np.arange(5)[:, None], 3**rank, axis=1))
    check(model, layer, rng.standard_normal((SAMPLES, 5, *[6] * rank)).astype(np.float32), 11)


@settings(max_examples=25, deadline=None)
@given(convolutions(), st.integers(0, 20))
def test_columns_belong_to_the_channels_that_they_multiply(drawn: tuple[Model, int], channel: int) -> None:
    """An input with one channel that is not zero has no other columns that are not zero."""
    model, _ = drawn
    layer = the_layer(model)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    channel %= shape[1]
    x = np.zeros(shape, dtype=np.float32)
    x[:, channel] = np.random.default_rng(0).uniform(1, 2, shape[2:])
    places = some_places(layer, x, place_count(layer, x))
    touched = (patches(layer, x, places) != 0).any(axis=1)
    owners = layer.column_channels
    assert owners.shape == touched.shape
    assert not touched[owners != channel].any()
    assert touched[owners == channel].any()


@settings(max_examples=40, deadline=None)
@given(
    turned=st.booleans(),
    alpha=st.sampled_from([None, 0.5, -3.0]),
    beta=st.sampled_from([None, 0.25, -2.0]),
    bias=st.sampled_from([None, (5,), (1, 5)]),
    seed=st.integers(0, 99),
)
def test_a_gemm_is_its_matrix_times_its_rows(
    turned: bool, alpha: float | None, beta: float | None, bias: tuple[int, ...] | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = {"w": rng.standard_normal((5, 4) if turned else (4, 5)).astype(np.float32)}
    if bias is not None:
        weights["b"] = rng.standard_normal(bias).astype(np.float32)
    given_attributes = {"alpha": alpha, "beta": beta, "transB": int(turned) or None}
    model = lone("Gemm", [SAMPLES, 4], weights, **{k: v for k, v in given_attributes.items() if v is not None})
    layer = the_layer(model)
    assert (layer.bias is None) == (bias is None)
    check(model, layer, rng.standard_normal((SAMPLES, 4)).astype(np.float32), 1)


@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ({"w": (4, 5), "b": (1,)}, {}),
        ({"w": (4, 5), "b": ()}, {}),
        ({"w": (4, 5), "b": (3, 5)}, {}),
        ({"w": (4, 5), "b": (5,)}, {"beta": 0.0}),
        ({"w": (4, 5), "b": (5,)}, {"alpha": 0.0}),
        ({"w": (3, 5)}, {"transA": 1}),
    ],
)
def test_a_gemm_that_is_no_affine_map_of_rows_with_one_bias_for_each_output_is_no_layer(
    weights: dict[str, tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    arrays = {n: np.ones(shape, dtype=np.float32) for n, shape in weights.items()}
    assert not len(Layers(lone("Gemm", [3, 4], arrays, **attributes)))


@settings(max_examples=40, deadline=None)
@given(
    left=st.booleans(),
    flips=st.tuples(st.booleans(), st.booleans()),
    alpha=st.sampled_from([1.0, -3.0]),
    seed=st.integers(0, 99),
)
def test_a_gemm_with_its_weight_on_either_side_and_transposed_operands_is_its_matrix_times_its_rows(
    left: bool, flips: tuple[bool, bool], alpha: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(2, 4)[:: -1 if flips[0] else 1], (4, 5)[:: -1 if flips[1] else 1]]
    w, x = shapes if left else shapes[::-1]
    order = "w, x" if left else "x, w"
    attributes = f"transA={int(flips[0])}, transB={int(flips[1])}, alpha={alpha}"
    model = parsed(f"float{list(x)} x", "float y", f"float{list(w)} w", f"y = Gemm <{attributes}> ({order})")
    layer = one_of(model, 0 if left else 1)
    assert bool(layer.unfit) == (left or flips[0])
    check(model, layer, rng.standard_normal(x).astype(np.float32), 3)


@pytest.mark.parametrize("sizes", [(), (3,), (2, 3)])
def test_a_matmul_with_its_weight_on_the_left_is_its_matrix_times_columns(sizes: tuple[int, ...]) -> None:
    shape = [*sizes, 4, 6]
    model = parsed(f"float{shape} x", "float y", "float[5, 4] w", "y = MatMul(w, x)")
    layer = one_of(model, 0)
    assert layer.unfit
    check(model, layer, np.random.default_rng(0).standard_normal(shape).astype(np.float32), 100)


@pytest.mark.parametrize("bias", ["", "float[5] b", "float[1, 5] b"])
@pytest.mark.parametrize("sizes", [(), (6,), (2, 3)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_matmul_is_its_matrix_times_its_rows_with_the_constant_added_next(
    bias: str, sizes: tuple[int, ...], swapped: bool
) -> None:
    shape = ", ".join(map(str, ("N", *sizes, 4)))
    add = ("y = Add(b, h)" if swapped else "y = Add(h, b)") if bias else "y = Relu(h)"
    weights = "float[4, 5] w" + (f", {bias}" if bias else "")
    model = parsed(f"float[{shape}] x", "float y", weights, f"h = MatMul(x, w) {add}")
    layer = the_layer(model)
    assert (layer.node, layer.output, layer.bias) == ("h", "y" if bias else "h", "b" if bias else None)
    check(model, layer, np.random.default_rng(0).standard_normal((SAMPLES, *sizes, 4)).astype(np.float32), 4)


@pytest.mark.parametrize(
    ("why", "weights", "nodes"),
    [
        ("read twice", "float[4, 5] w, float[5] b", "h = MatMul(x, w) z = Add(h, b) y = Mul(z, h)"),
        ("a sum of two activations", "float[4, 5] w, float[4, 5] v", "h = MatMul(x, w) g = MatMul(x, v) y = Add(h, g)"),
        ("one number for all", "float[4, 5] w, float[1] b", "h = MatMul(x, w) y = Add(h, b)"),
    ],
)
def test_a_sum_that_is_no_bias_stays_out_of_the_layer(why: str, weights: str, nodes: str) -> None:
    model = parsed("float[N, 4] x", "float[N, 5] y", weights, nodes)
    layers = list(Layers(model))
    assert all(layer.bias is None and layer.output == layer.node for layer in layers), why
    x = np.random.default_rng(0).standard_normal((SAMPLES, 4)).astype(np.float32)
    for layer in layers:
        check(model, layer, x, 1)


def test_a_matmul_whose_output_leaves_the_network_has_no_bias() -> None:
    model = parsed(
        "float[N, 4] x", "float[N, 5] y, float[N, 5] h", "float[4, 5] w, float[5] b", "h = MatMul(x, w) y = Add(h, b)"
    )
    assert (the_layer(model).output, the_layer(model).bias) == ("h", None)


@pytest.mark.parametrize(
    ("inputs", "weights", "nodes"),
    [
        ("float[N, 4] x, float[4, 5] v", "float[1] w", "y = MatMul(x, v)"),
        ("float[4, 2] x", "float[3, 4] w", "y = MatMul(w, x)"),
        ("float[N, 2, 4] x", "float[2, 4, 3] w", "y = MatMul(x, w)"),
        ("float[N, 2, 6] x, float[4, 2, 3] v", "float[1] w", "y = Conv(x, v)"),
    ],
)
def test_products_with_anything_but_one_constant_matrix_are_no_layers(inputs: str, weights: str, nodes: str) -> None:
    assert not len(Layers(parsed(inputs, "float y", weights, nodes)))


def test_other_peoples_operators_are_no_layers_whatever_they_are_called() -> None:
    model = lone("Conv", [1, 2, 5], {"w": np.ones((3, 2, 1), dtype=np.float32)})
    assert len(Layers(model)) == 1
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    changed.graph.node[0].domain = "somebody.else"
    assert not len(Layers(Model(changed, model.weights)))


def test_half_precision_weights_come_back_in_half_precision() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 2, 3, 3)).astype(np.float16)
    layer = the_layer(lone("Conv", [1, 4, 5, 5], {"w": weight.astype(np.float32)}, group=2))
    back = layer.weight_like(layer.matrix(weight), weight)
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back, weight)
    assert patches(layer, np.ones((1, 4, 5, 5), dtype=np.float16), np.zeros((1, 1), dtype=np.int64)).dtype == np.float32


def test_layers_come_in_graph_order_by_the_tensor_after_their_bias() -> None:
    model = parsed(
        "float[N, 3, 6] x",
        "float[N, 2] y",
        "float[4, 3, 3] w1, float[5, 4, 1] w2, float[20, 6] w3, float[6] b3, float[6, 2] w4",
        "a = Conv(x, w1) r = Relu(a) c = Conv(r, w2) f = Flatten(c) m = MatMul(f, w3) s = Add(m, b3) y = Gemm(s, w4)",
    )
    assert list(Layers(model).by_output) == ["a", "c", "s", "y"]


def pixels(samples: int, count: int) -> tuple[Layer, np.ndarray]:
    """A layer with so many places in each sample, and an input for it."""
    model = lone("Conv", [samples, 1, count], {"w": np.ones((1, 1, 1), dtype=np.float32)})
    return the_layer(model), np.zeros((samples, 1, count), dtype=np.float32)


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12),
    count=st.integers(1, 200),
    wanted=st.integers(1, 250),
    seed=st.integers(0, 99),
)
def test_a_sample_has_the_same_places_wherever_it_stands_and_whatever_the_batch(
    keys: list[int], count: int, wanted: int, seed: int
) -> None:
    array = np.array(keys, dtype=np.int64)
    layer, x = pixels(len(keys), count)
    whole = spread_places(layer, x, wanted, array)
    assert whole.shape == (len(keys), min(count, wanted))
    order = np.random.default_rng(seed).permutation(len(keys))
    np.testing.assert_array_equal(spread_places(layer, x, wanted, array[order]), whole[order])
    apart = [spread_places(layer, x[:1], wanted, array[i : i + 1]) for i in range(len(keys))]
    np.testing.assert_array_equal(np.concatenate(apart), whole)
    for row in whole:
        assert len(set(row.tolist())) == len(row)
        assert 0 <= row.min() <= row.max() < count


@pytest.mark.parametrize("wanted", [81, 82, 1000])
def test_all_places_are_taken_where_so_many_are_wanted(wanted: int) -> None:
    layer, x = pixels(2, 81)
    found = spread_places(layer, x, wanted, np.array([5, 2**31]))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(81), (2, 1)))


def test_places_of_many_samples_together_cover_all_positions_evenly() -> None:
    layer, x = pixels(2000, 49)
    times = np.bincount(spread_places(layer, x, 7, np.random.default_rng(0).integers(0, 2**32, 2000)).ravel())
    assert len(times) == 49
    assert times.min() > 0.7 * times.mean()
    assert times.max() < 1.3 * times.mean()


@pytest.mark.parametrize("length", [5, 40])
def test_rows_are_found_where_the_first_axis_does_not_count_samples(length: int) -> None:
    """A sequence first: as many rows as for samples first, at most one more for each step."""
    model = parsed("float[T, N, 4] x", "float[T, N, 5] y", "float[4, 5] w", "y = MatMul(x, w)")
    layer, x = the_layer(model), np.random.default_rng(0).standard_normal((length, 8, 4)).astype(np.float32)
    places = spread_places(layer, x, 10, np.arange(8))
    assert places.shape[0] == length
    assert 0 < places.size <= max(80 + length, x.size // 4)
    y = run_plainly(model, {"x": x}, ["y"])["y"]
    weight = layer.matrix(model.weights["w"])
    np.testing.assert_allclose(
        patches(layer, x, places) @ weight.transpose(0, 2, 1), picked(y, layer, places), atol=1e-5
    )
