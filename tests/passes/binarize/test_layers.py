"""Layers beside plain convolutions: matrices, one axis, images that become rows, factors of samples, float inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.proof import prove
from intaglio.passes.binarize.trained.recognize import recognize

from .binary_graphs import SIGNS, STEPS, Graph, falling, scales, signs, small, zero_or_one


def graph(seed: int = 0) -> Graph:
    return Graph(np.random.default_rng(seed))


def numbers(g: Graph, *shape: int) -> np.ndarray:
    return g.rng.integers(-16, 17, shape).astype(np.float32) / 8


def run_x(model: Model, x: np.ndarray) -> np.ndarray:
    return next(iter(run(open_session(model, optimize=False), {"x": x}).values()))


def packed(model: Model, x: np.ndarray, layers: int = 1, *, zeros: bool = False) -> Counter[str]:
    """Operators of the packed form, after it was seen to give the same numbers, as the dense one does."""
    found = recognize(model, zeros=zeros)
    assert sum(layer.bits is not None for layer in found.layers.values()) == layers, found
    for form in ("dense", "packed"):
        lowered = lower(found, form)
        prove(found, lowered, [{"x": x}])
        np.testing.assert_array_equal(run_x(lowered.model, x), run_x(model, x))
    return Counter(n.op_type for n in lowered.model.graph.node)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_matrices_with_any_batch_axes(data: st.DataObject) -> None:
    g = graph(data.draw(st.integers(0, 99)))
    shape = data.draw(st.sampled_from([(4,), (2, 3), (2, 2, 3)]))
    inner, outer = data.draw(st.sampled_from([(8, 3), (33, 16), (64, 9)]))
    form = SIGNS[data.draw(st.sampled_from(sorted(SIGNS)))]
    ternary = data.draw(st.booleans())
    a = form(g, g.node("Add", "x", g.constant(small(g.rng, inner))))
    y = g.node("MatMul", a, g.constant(0.5 * signs(g.rng, inner, outer, ternary=ternary)))
    y = g.node("Mul", g.node("Add", y, g.constant(small(g.rng, outer))), g.constant(scales(g.rng, outer)))
    b = form(g, y)
    z = g.node("MatMul", b, g.constant(signs(g.rng, outer, 8).repeat(1, 0))) if outer >= 8 else b
    ops = packed(g.model([*shape, inner], z), numbers(g, *shape, inner), 2 if outer >= 8 else 1)
    assert ops["MatMul"] == 0
    assert ops["BGemmBits"] == (outer >= 8)


@pytest.mark.parametrize("flipped", [0, 1])
def test_gemm_with_all_its_attributes(flipped: int) -> None:
    g = graph()
    w = signs(g.rng, 12, 40)
    bias = g.constant(small(g.rng, 1, 12))
    y = g.node(
        "Gemm",
        SIGNS["where_below"](g, "x"),
        g.constant(w if flipped else w.T),
        bias,
        transB=flipped,
        alpha=0.5,
        beta=2.0,
    )
    assert packed(g.model(["N", 40], y), numbers(g, 5, 40))["BGemm"] == 1


@pytest.mark.parametrize("border", [None, -1.0, 1.0])
def test_convolutions_along_one_axis(border: float | None) -> None:
    g = graph()
    a = SIGNS["where_below"](g, g.node("Add", "x", g.constant(small(g.rng, 10, 1))))
    if border is not None:
        a = g.node("Pad", a, g.constant([0, 0, 2, 0, 0, 1], np.int64), g.constant(border))
    y = g.node("Conv", a, g.constant(signs(g.rng, 6, 5, 4)), pads=[0, 0] if border else [1, 2], strides=[2], group=2)
    y = g.node("Sub", g.node("Relu", g.node("Mul", y, g.constant(scales(g.rng, 6, 1)))), g.constant(1))
    z = g.node("Conv", SIGNS["where_below"](g, y), g.constant(signs(g.rng, 4, 6, 3)))
    ops = packed(g.model(["N", 10, "L"], z), numbers(g, 2, 10, 23), 2)
    assert (ops["BConv"], ops["BConvBits"]) == (1, 1)


@pytest.mark.parametrize("channels", [8, 16, 20])
def test_images_that_become_rows(channels: int) -> None:
    g = graph()
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, channels, 9, 3, 3)))
    a = SIGNS["where_below"](g, STEPS["BatchNormalization"](g, y, channels))
    rows = g.node("Flatten", a) if channels != 8 else g.node("Reshape", a, g.constant([0, -1], np.int64))
    z = g.node("MatMul", rows, g.constant(signs(g.rng, channels * 9, 7)))
    ops = packed(g.model(["N", 9, 5, 5], z), numbers(g, 2, 9, 5, 5), 2)
    assert ops["BConvBits"] == (channels % 8 == 0)


def test_one_factor_for_each_sample_moves_behind_the_products() -> None:
    """XNOR-Net: signs times their mean magnitude, here a power of two so that floats are exact."""
    g = graph()
    a = SIGNS["where_below"](g, "x")
    largest = g.node("ReduceMax", "x", axes=[1, 2, 3], keepdims=1)
    y = g.node(
        "Conv",
        g.node("Mul", a, largest),
        g.constant(signs(g.rng, 8, 9, 3, 3)),
        g.constant(small(g.rng, 8)),
        pads=[1] * 4,
    )
    assert packed(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5))["BConv"] == 1


@pytest.mark.parametrize("pads", [0, 1])
def test_zero_and_one_are_signs_too(pads: int) -> None:
    """DoReFa: padding with 0 is then padding with the lower value."""
    g = graph()
    y = g.node(
        "Conv", zero_or_one(g, "x"), g.constant(signs(g.rng, 8, 9, 3, 3)), g.constant(small(g.rng, 8)), pads=[pads] * 4
    )
    model = g.model(["N", 9, 5, 5], y)
    packed(model, numbers(g, 2, 9, 5, 5))
    (layer,) = recognize(model).layers.values()
    assert layer.border == (-1 if pads else 0)


def test_signs_that_fall() -> None:
    g = graph()
    y = g.node(
        "Conv", falling(g, g.node("Mul", "x", g.constant(scales(g.rng, 9, 1, 1)))), g.constant(signs(g.rng, 8, 9, 3, 3))
    )
    packed(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("pads", [0, 1])
def test_a_pool_before_a_normalization_that_falls_in_some_channels(pads: int, flat: bool) -> None:
    """BinaryNet's order. The smallest of signs is the opposite of the largest of their opposites."""
    g = graph()
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 16, 9, 3, 3)), pads=[1] * 4)
    y = STEPS["BatchNormalization"](g, g.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 16)
    a = SIGNS["where_below"](g, y)
    if flat:
        z = g.node("MatMul", g.node("Flatten", a), g.constant(signs(g.rng, 64, 7)))
    else:
        z = g.node("Conv", a, g.constant(signs(g.rng, 6, 8, 2, 2, ternary=True)), pads=[pads] * 4, group=2)
    ops = packed(g.model(["N", 9, 4, 4], z), numbers(g, 2, 9, 4, 4), 2)
    assert (ops["BConvBits"], ops["BMaxPool"], ops["MaxPool"]) == (1, 1, 0)


def test_a_sign_that_several_layers_read_is_packed_once() -> None:
    g = graph()
    a = SIGNS["where_below"](g, "x")
    parts = [g.node("Conv", a, g.constant(signs(g.rng, 8, 9, 3, 3))) for _ in range(3)]
    ops = packed(g.model(["N", 9, 5, 5], g.node("Sum", *parts)), numbers(g, 2, 9, 5, 5), 3)
    assert (ops["BitPack"], ops["BConv"]) == (1, 3)


def test_a_shift_behind_a_shortcut_joins_the_layer_once() -> None:
    g = graph()
    parts = [
        g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 9, 9, 3, 3)), pads=[1] * 4) for _ in "ab"
    ]
    y = g.node("Sub", g.node("Add", *parts), g.constant(small(g.rng, 9, 1, 1)))
    y = g.node("PRelu", g.node("Add", y, g.constant(small(g.rng, 9, 1, 1))), g.constant(scales(g.rng, 9, 1, 1)))
    ops = packed(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5), 2)
    assert (ops["Add"], ops["Sub"]) == (1, 0)


@pytest.mark.parametrize("shortcut", [False, True])
def test_floats_that_bits_are_taken_of_stay_though_a_shift_follows(shortcut: bool) -> None:
    g = graph()
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 9, 9, 3, 3)), pads=[1] * 4)
    y = g.node("Add", y, "x") if shortcut else y
    a = SIGNS["where_below"](g, g.node("Sub", y, g.constant(small(g.rng, 9, 1, 1))))
    z = g.node("Conv", a, g.constant(signs(g.rng, 8, 9, 1, 1)))
    model = g.model(["N", 9, 5, 5], z)
    model.graph.output.append(helper.make_tensor_value_info(a, TensorProto.FLOAT, None))
    packed(model, numbers(g, 2, 9, 5, 5), 2)


def test_weights_that_layers_share_are_stored_once() -> None:
    g = graph()
    w, x = g.constant(signs(g.rng, 9, 9, 3, 3)), "x"
    for _ in range(3):
        x = g.node("Add", x, g.node("Conv", SIGNS["where_below"](g, x), w, pads=[1] * 4))
    model = g.model(["N", 9, 5, 5], x)
    packed(model, numbers(g, 2, 9, 5, 5), 3)
    weights = lower(recognize(model)).model.weights
    assert sum(w.dtype == np.uint8 for w in weights.values()) == 1


def test_joined_signs_are_signs() -> None:
    g = graph()
    a = g.node("Concat", SIGNS["where_below"](g, "x"), SIGNS["not_less"](g, g.node("Neg", "x")), axis=1)
    y = g.node("Conv", a, g.constant(signs(g.rng, 8, 18, 3, 3)), pads=[1] * 4)
    packed(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(auto_pad: str) -> None:
    g = graph()
    weight = g.constant(signs(g.rng, 8, 9, 3, 2))
    y = g.node("Conv", SIGNS["where_below"](g, "x"), weight, auto_pad=auto_pad, strides=[2, 1])
    packed(g.model(["N", 9, 6, 5], y), numbers(g, 2, 9, 6, 5))


def test_the_sign_operator_is_taken_where_no_sum_is_zero() -> None:
    """Between layers of an odd number of products 0 cannot be; elsewhere it needs the option."""
    g = graph()
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 8, 9, 3, 3)))
    z = g.node("Conv", g.node("Sign", y), g.constant(signs(g.rng, 4, 8, 1, 1)))
    ops = packed(g.model(["N", 9, 5, 5], z), numbers(g, 2, 9, 5, 5), 2)
    assert ops["BConvBits"] == 1


def test_the_sign_operator_of_floats_is_taken_on_request_only() -> None:
    g = graph()
    y = g.node("Conv", g.node("Sign", "x"), g.constant(signs(g.rng, 8, 9, 3, 3)))
    model = g.model(["N", 9, 5, 5], y)
    (reason,) = recognize(model).left.values()
    assert "0 where its input is 0" in reason
    x = numbers(g, 2, 9, 5, 5)
    assert (x == 0).any()
    assert packed(model, np.where(x == 0, np.float32(1), x), zeros=True)["BConv"] == 1
    found = recognize(model, zeros=True)
    lowered = lower(found)
    prove(found, lowered, [{"x": x}])  # with a zero it is the network whose sign of 0 is +1
    expected = run_x(model, np.where(x == 0, np.float32(1), x))
    np.testing.assert_array_equal(run_x(lowered.model, x), expected)


def test_a_sign_that_is_also_an_output_stays_one() -> None:
    g = graph()
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 8, 9, 3, 3)))
    a = SIGNS["where_below"](g, y)
    z = g.node("Conv", a, g.constant(signs(g.rng, 4, 8, 1, 1)))
    model = g.model(["N", 9, 5, 5], z)
    model.graph.output.append(helper.make_tensor_value_info(a, TensorProto.FLOAT, None))
    ops = packed(model, numbers(g, 2, 9, 5, 5), 2)
    assert (ops["BConv"], ops["BConvBits"]) == (2, 0)


def test_weights_of_a_convolution_alone_are_stored_as_bits() -> None:
    g = graph()
    y = g.node("Conv", "x", g.constant(0.5 * signs(g.rng, 64, 9, 3, 3)), g.constant(small(g.rng, 64)), pads=[1] * 4)
    weights_alone(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5), "UnpackWeight")


@pytest.mark.parametrize("ternary", [False, True])
def test_weights_of_a_matrix_alone_are_stored_as_bits(ternary: bool) -> None:
    g = graph()
    y = g.node("MatMul", "x", g.constant(0.5 * signs(g.rng, 40, 30, ternary=ternary)))
    weights_alone(g.model(["N", 3, 40], y), numbers(g, 2, 3, 40), "UnpackWeight")


def test_a_large_matrix_that_few_rows_read_is_multiplied_in_bits() -> None:
    g = graph()
    y = g.node("MatMul", "x", g.constant(signs(g.rng, 1100, 1000)))
    weights_alone(g.model(["N", 1100], y), numbers(g, 2, 1100), "MatMul1Bit")


def test_weights_of_a_linear_layer_alone_are_stored_as_bits() -> None:
    g = graph()
    y = g.node("Gemm", "x", g.constant(signs(g.rng, 30, 40)), g.constant(small(g.rng, 30)), transB=1, alpha=2.0)
    weights_alone(g.model(["N", 40], y), numbers(g, 2, 40), "UnpackWeight")


def weights_alone(model: Model, x: np.ndarray, operator: str) -> None:
    lowered = lower(recognize(model))
    assert operator in {n.op_type for n in lowered.model.graph.node}
    assert list(lowered.done.values()) == ["weights"]
    np.testing.assert_array_equal(run_x(lowered.model, x), run_x(model, x))


REASONS: dict[str, Callable[[Graph], str]] = {
    "its weights are no signs": lambda g: g.node(
        "Conv", SIGNS["where_below"](g, "x"), g.constant(small(g.rng, 8, 9, 3, 3))
    ),
    "its rows have fewer than 8 weights": lambda g: g.node("Conv", "x", g.constant(signs(g.rng, 9, 1, 2, 3)), group=9),
    "its input comes from outside the network": lambda g: g.node("Conv", "x", g.constant(signs(g.rng, 2, 9, 3, 3))),
    "its input is no sign: Softmax makes it": lambda g: g.node(
        "Conv", g.node("Softmax", "x"), g.constant(signs(g.rng, 2, 9, 3, 3))
    ),
    "it has more than two values": lambda g: g.node(
        "Conv",
        g.node("Mul", SIGNS["where_below"](g, "x"), g.constant(np.arange(1, 10).reshape(9, 1, 1))),
        g.constant(signs(g.rng, 2, 9, 3, 3)),
    ),
    "it differs from place to place": lambda g: g.node(
        "Conv",
        g.node("Mul", SIGNS["where_below"](g, "x"), g.constant(np.arange(25).reshape(5, 5))),
        g.constant(signs(g.rng, 2, 9, 3, 3)),
    ),
    "it is padded with 0.5": lambda g: g.node(
        "Conv",
        g.node("Pad", SIGNS["where_below"](g, "x"), g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), g.constant(0.5)),
        g.constant(signs(g.rng, 2, 9, 3, 3)),
    ),
    "it adds zeros around an input that is padded already": lambda g: g.node(
        "Conv",
        g.node("Pad", SIGNS["where_below"](g, "x"), g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), g.constant(1)),
        g.constant(signs(g.rng, 2, 9, 3, 3)),
        pads=[1] * 4,
    ),
    "by a tensor, not by one number for each sample": lambda g: g.node(
        "Conv", g.node("Mul", SIGNS["where_below"](g, "x"), g.node("Abs", "x")), g.constant(signs(g.rng, 2, 9, 3, 3))
    ),
}


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_why_a_layer_stays_is_told(reason: str) -> None:
    g = graph()
    found = recognize(g.model(["N", 9, 5, 5], REASONS[reason](g)))
    assert not found.layers
    (told,) = found.left.values()
    assert reason in told


def test_a_pad_of_another_value_is_no_sign_but_signs_of_a_pad_are() -> None:
    g = graph()
    pads = g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    a = SIGNS["where_below"](g, g.node("Pad", "x", pads, g.constant(0.5)))
    y = g.node("Conv", a, g.constant(signs(g.rng, 8, 9, 3, 3)))
    packed(g.model(["N", 9, 5, 5], y), numbers(g, 2, 9, 5, 5))
