"""Means and variances known from BatchNormalization: each operator against sampling, and a real network's activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import scipy.special  # noqa: F401  load_library where it is used otherwise, which would count against a deadline
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from intaglio.graph.coupling.rules.elementwise import BROADCAST
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.calibration.normal.moments import (
    GRID,
    MOMENT_RULES,
    Floats,
    clipped,
    covariance,
    gaussian,
    integrate,
    moments,
)
from intaglio.passes.calibration.normal.rules import FUNCTIONS, normalized

CHANNELS, SAMPLES, SIDE = 4, 3000, 4
Shifts = tuple[tuple[float, ...], float]
WIDE: Shifts = ((-1.0, 0.0, 0.4, 2.0), 0.8)
SMALL: Shifts = ((-0.3, -0.1, 0.0, 0.3), 0.1)
POSITIVE: Shifts = ((2.0, 2.2, 2.5, 3.0), 0.15)
SOURCES = dict.fromkeys(["Acos", "Asin", "Atanh", "Tan", "Exp", "Cosh", "Sinh"], SMALL)
SOURCES |= dict.fromkeys(["Acosh", "Log", "Sqrt", "Reciprocal", "Pow", "Mod"], POSITIVE)
SCALE = np.array([1.5, -0.5, 0.8, 1.0], dtype=np.float32).reshape(1, -1, 1, 1)


def build(text: str, weights: Mapping[str, np.ndarray] | None = None, shift: Shifts = WIDE) -> Model:
    """A network on ``b`` and ``c``, each normalized to a mean for each channel and one deviation, up to output ``y``."""
    means, deviation = shift
    arrays: dict[str, np.ndarray] = {"beta": np.array(means, dtype=np.float32)}
    arrays["gamma"] = np.full(CHANNELS, -deviation, dtype=np.float32)
    arrays |= {
        "mu": np.zeros(CHANNELS, dtype=np.float32),
        "var": np.ones(CHANNELS, dtype=np.float32),
        **(weights or {}),
    }
    graph = f"""<ir_version: 10, opset_import: ["" : 24]>
        net (float[N, {CHANNELS}, {SIDE}, {SIDE}] x, float[N, {CHANNELS}, {SIDE}, {SIDE}] z) => (y) {{
            b = BatchNormalization <epsilon = 0.0> (x, gamma, beta, mu, var)
            c = BatchNormalization <epsilon = 0.0> (z, gamma, beta, mu, var)
            {text}
        }}"""
    proto = onnx.parser.parse_model(graph)
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    return from_proto(proto)


def sampled(model: Model, names: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (SAMPLES, CHANNELS, SIDE, SIDE)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name in ("x", "z")}
    return run(open_session(model, outputs=names, optimize=False), feeds)


def assert_agrees(model: Model, name: str = "y", *, bound: bool = False) -> None:
    """Prediction and sample have the same means, and the same variances, or no larger ones than predicted."""
    found, value = moments(model)[name], np.asarray(sampled(model, [name])[name], dtype=np.float64)
    shape = (len(value), *found.mean.shape[1:])
    assert found.mean.shape[0] == 1
    others = tuple(a for a in range(value.ndim) if a == 0 or shape[a] == 1)
    mean, variance = value.mean(axis=others, keepdims=True), value.var(axis=others, keepdims=True)
    error = np.sqrt(variance / SAMPLES)
    np.testing.assert_array_less(np.abs(found.mean - mean), 5 * error + 2e-3)
    if bound:
        assert (found.variance >= variance * 0.95).all()
    else:
        np.testing.assert_allclose(found.variance, variance, rtol=0.08, atol=2e-3)


WEIGHTS: Mapping[str, np.ndarray] = {
    name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for name, shape in {
        "w": (6, 4, 3, 3),
        "bias": (6,),
        "grouped": (6, 2, 3, 3),
        "deep": (8, 1, 3, 3),
        "matrix": (4, 5),
        "turned": (5, 64),
        "row": (5,),
    }.items()
} | {
    "scale": SCALE.reshape(-1),
    "split": np.array([1, 3]),
    "starts": np.array([1, 0]),
    "ends": np.array([3, 2]),
    "axes": np.array([1, 2]),
    "indices": np.array([2, 0, 2]),
    "pads": np.array([0, 2, 0, 0, 0, 1, 0, 0]),
    "fill": np.array(0.5, dtype=np.float32),
    "flat": np.array([0, 2, 2, SIDE, SIDE]),
    "one": np.array([1]),
    "low": np.array(-0.5, dtype=np.float32),
    "high": np.array(1.0, dtype=np.float32),
    "spatial": np.array([2, 3]),
    "sizes": np.array([1.0, 1.0, 2.0, 2.0], dtype=np.float32),
}
CASES = {
    "BatchNormalization": "y = BatchNormalization <epsilon = 0.5> (x, scale, beta, mu, var)",
    "Clip": "y = Clip(b, low, high)",
    "Dropout": "y = Dropout(b)",
    "Conv": "y = Conv(b, w, bias)",
    "Gemm": "f = Flatten(b) y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (f, turned, row)",
    "MatMul": "t = Transpose <perm = [0, 2, 3, 1]> (b) y = MatMul(t, matrix)",
    "Transpose": "y = Transpose <perm = [0, 2, 1, 3]> (b)",
    "Reshape": "y = Reshape(b, flat)",
    "Flatten": "y = Flatten(b)",
    "Unsqueeze": "y = Unsqueeze(b, one)",
    "Squeeze": "u = Unsqueeze(b, one) y = Squeeze(u, one)",
    "Split": "s, y = Split <axis = 1> (b, split)",
    "Slice": "y = Slice(b, starts, ends, axes)",
    "Gather": "y = Gather <axis = 1> (b, indices)",
    "Concat": "r = Relu(c) y = Concat <axis = 1> (b, r)",
    "Pad": "y = Pad(b, pads, fill)",
}
BOUNDS = {
    "AveragePool": "y = AveragePool <kernel_shape = [2, 2]> (b)",
    "GlobalAveragePool": "y = GlobalAveragePool(b)",
    "Resize": 'y = Resize <mode = "linear"> (b, , sizes)',
    "ReduceMean": "y = ReduceMean <keepdims = 0> (b, spatial)",
}
"""Operators of which the variance is bounded only."""
ELSEWHERE = {"MaxPool", "InstanceNormalization"}
"""Operators with tests of their own below."""


@pytest.mark.parametrize("op", sorted(CASES))
def test_what_an_operator_makes_has_the_predicted_mean_and_variance(op: str) -> None:
    assert_agrees(build(CASES[op], WEIGHTS))


@pytest.mark.parametrize("op", sorted(BOUNDS))
def test_averages_keep_the_mean_and_vary_no_more_than_predicted(op: str) -> None:
    assert_agrees(build(BOUNDS[op], WEIGHTS), bound=True)


def _elementwise(op: str) -> str:
    settings = {"Cast": "<to = 1>", "Mod": "<fmod = 1>"}.get(op, "")
    if op in BROADCAST:
        return f"y = {op} {settings} (" + ("cond, b, scaled)" if op == "Where" else "b, scaled)")
    return f"y = {op} {settings} (b)"


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_of_one_value_have_the_predicted_mean_and_variance(op: str) -> None:
    cond = np.array([True, False, True, False]).reshape(1, -1, 1, 1)
    model = build(_elementwise(op), {"scaled": SCALE, "cond": cond}, SOURCES.get(op, WIDE))
    if op in ("SwiGLU", "Swish"):
        pytest.skip("no runtime to sample it with")
    assert_agrees(model)


def test_every_rule_has_a_case_here() -> None:
    assert set(MOMENT_RULES) == {*FUNCTIONS, *CASES, *BOUNDS, *ELSEWHERE}


@pytest.mark.parametrize(
    "text",
    [
        "s = Sigmoid(b) y = Mul(b, s)",
        "s = HardSigmoid(b) t = Mul(s, b) y = Add(t, b)",
        "r = Relu(b) y = Sub(b, r)",
        "t = Transpose <perm = [0, 2, 3, 1]> (b) r = Relu(t) s = Tanh(t) y = Mul(r, s)",
    ],
)
def test_what_depends_on_the_same_values_is_followed_jointly(text: str) -> None:
    assert_agrees(build(text))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Sum"])
def test_independent_tensors_meet_by_their_moments(op: str) -> None:
    assert_agrees(build(f"r = Relu(c) y = {op}(b, r)"))
    assert_agrees(build(f"r = Relu(c) m = {op}(b, r) y = Identity(m)"))


def test_a_rectified_sum_counts_as_a_rectified_normal_variable() -> None:
    model = build("m = Add(b, c) y = Relu(m)")
    assert_agrees(model)


@pytest.mark.parametrize("groups", ["w", "grouped", "deep"])
def test_grouped_convolutions_follow_their_groups(groups: str) -> None:
    count = {"w": 1, "grouped": 2, "deep": 4}[groups]
    assert_agrees(build(f"r = Relu(b) y = Conv <group = {count}> (r, {groups})", WEIGHTS))


def test_channels_keep_their_places_through_a_shuffle() -> None:
    text = "f = Reshape(b, flat) t = Transpose <perm = [0, 2, 1, 3, 4]> (f) y = Reshape(t, back)"
    model = build(text, {**WEIGHTS, "back": np.array([0, CHANNELS, SIDE, SIDE])})
    assert_agrees(model)
    np.testing.assert_allclose(moments(model)["y"].along(1)[0], np.array(WIDE[0])[[0, 2, 1, 3]], rtol=1e-6)


def test_the_greatest_of_a_window_counts_as_that_of_its_side() -> None:
    model = build("r = Relu(b) y = MaxPool <kernel_shape = [3, 3]> (r)")
    found = moments(model)["y"]
    draws = np.maximum(np.random.default_rng(0).standard_normal((200_000, 3)) * WIDE[1], -np.inf)
    truth = np.maximum(draws.max(axis=1)[:, None] + np.array(WIDE[0]), 0)
    np.testing.assert_allclose(found.along(1)[0], truth.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(found.along(1)[1], truth.var(axis=0), rtol=0.05, atol=1e-3)
    mean, sampled_max = moments(model)["r"].along(1)[0], sampled(model, ["y"])["y"].mean(axis=(0, 2, 3))
    assert (mean < found.along(1)[0]).all()
    assert (found.along(1)[0] < sampled_max).all()


def test_instance_normalization_has_the_moments_it_normalizes_to() -> None:
    model = build("y = InstanceNormalization(b, scale, row4)", {**WEIGHTS, "row4": np.array(WIDE[0], dtype=np.float32)})
    mean, variance = moments(model)["y"].along(1)
    np.testing.assert_allclose(mean, WIDE[0], rtol=1e-6)
    np.testing.assert_allclose(variance, SCALE.reshape(-1) ** 2, rtol=1e-6)


def test_a_channel_without_variance_in_training_has_none_after_normalization() -> None:
    model = build(
        "y = BatchNormalization (b, scale, beta, mu, none)", {**WEIGHTS, "none": np.zeros(4, dtype=np.float32)}
    )
    np.testing.assert_array_equal(moments(model)["y"].variance, 0)


def test_three_layers_in_a_row_without_statistics_end_what_is_known() -> None:
    square = np.eye(CHANNELS, dtype=np.float32)[:, :, None, None]
    model = build("p = Conv(b, s) q = Conv(p, s) y = Conv(q, s)", {"s": square})
    assert {"p", "q"} <= moments(model).keys()
    assert "y" not in moments(model)


def test_nothing_is_known_behind_other_operators() -> None:
    assert "y" not in moments(build("y = Softmax <axis = 1> (b)"))
    assert "y" not in moments(build("s = Softmax <axis = 1> (c) y = Add(b, s)"))
    assert "y" not in moments(build("y = Div(b, c)"))


def test_a_model_without_normalization_tells_nothing(shared_data: Path) -> None:
    assert moments(load(shared_data / "resnet20.onnx")) == {}


finite = st.floats(-5, 5)


@given(finite, st.floats(1e-3, 4), finite, st.floats(0, 5))
def test_clipping_in_closed_form_is_the_integral(mean: float, deviation: float, low: float, width: float) -> None:
    x = gaussian("x", np.array([mean]), np.array([deviation**2]))
    closed = clipped(x.mean, x.variance, low, low + width)
    grid = integrate(np.clip(x.values(), low, low + width))
    np.testing.assert_allclose(closed[0], grid[0], atol=1e-3 * deviation)
    np.testing.assert_allclose(closed[1], grid[1], atol=5e-3 * deviation**2)


def test_clipping_what_does_not_vary_is_exact() -> None:
    mean, variance = clipped(np.array([-1.0, 0.5, 3.0]), np.zeros(3), 0.0, 2.0)
    np.testing.assert_array_equal(mean, [0, 0.5, 2])
    np.testing.assert_array_equal(variance, 0)


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.3, 0.9])
def test_functions_of_correlated_variables_covary_as_sampled(correlation: float) -> None:
    pair = np.array([[1, correlation], [correlation, 1]])
    z = np.random.default_rng(0).multivariate_normal([0, 0], pair, 400_000)
    shapes: list[Callable[[Floats], Floats]] = [lambda v: np.maximum(v - 0.3, 0), np.tanh]
    values = np.stack([shape(GRID) for shape in shapes])
    truth = np.cov(np.stack([shape(z[:, k]) for k, shape in enumerate(shapes)]))
    _, variance = integrate(values)
    np.testing.assert_allclose(covariance(values, pair.astype(np.float32), variance), truth, atol=5e-3)


def test_filters_that_point_the_same_way_make_channels_that_vary_together() -> None:
    """On white noise, through a sum, a rectifier, a depthwise convolution and a change of order."""
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((1, CHANNELS, 3, 3)) + 0.7 * rng.standard_normal((CHANNELS, CHANNELS, 3, 3))
    text = """m = Conv(x, near) n = BatchNormalization(m, gamma, beta, mu, spread) o = Conv(z, near)
        p = BatchNormalization(o, gamma, beta, mu, spread) q = Add(n, p) r = Relu(q) y = Gather <axis = 1> (r, order)"""
    spread = np.square(shared).sum(axis=(1, 2, 3)).astype(np.float32)
    order = np.array([2, 0, 3, 1])
    model = build(text, {"near": shared.astype(np.float32), "spread": spread, "order": order})
    found = moments(model, correlated=True)
    for name, value in sampled(model, ["n", "q", "r", "y"]).items():
        truth = np.cov(np.moveaxis(value, 1, 0).reshape(CHANNELS, -1))
        np.testing.assert_allclose(found[name].covariance(), truth, atol=0.03)


def images(folder: Path, count: int) -> NDArray[np.float32]:
    x = np.load(folder / "cifar10_test_first2000.npz")["x"][:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((x - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)


def test_a_real_network_has_about_the_predicted_activations(shared_data: Path) -> None:
    model = load(shared_data / "resnet20-bn.onnx")
    found = moments(model, correlated=True)
    names = [n.output[0] for n in model.graph.node if n.op_type == "Relu"]
    values = run(open_session(model, outputs=names, optimize=False), {"input": images(shared_data, 128)})
    alike, errors, together = [], [], []
    for name in names:
        value = np.moveaxis(values[name].astype(np.float64), 1, 0).reshape(values[name].shape[1], -1)
        mean, truth = found[name].along(1)[0], value.mean(axis=1)
        alike.append(np.corrcoef(mean, truth)[0, 1])
        errors.append(float(np.linalg.norm(mean - truth) / np.linalg.norm(truth)))
        off = ~np.eye(len(value), dtype=bool)
        together.append(np.corrcoef(np.cov(value)[off], found[name].covariance()[off])[0, 1])
    assert np.mean(alike) > 0.9
    assert max(errors) < 0.35
    assert np.mean(errors) < 0.2
    assert np.mean(together) > 0.6


def _depths(model: Model) -> Floats:
    return np.array([x.links for x in moments(model).values()])


def test_statistics_count_layers_since_they_were_known(shared_data: Path) -> None:
    assert set(_depths(load(shared_data / "resnet20-bn.onnx"))) == {0, 1}


def test_a_node_is_evaluated_by_its_own_definition() -> None:
    """A slope for each channel, and attributes that are not the defaults."""
    slope = np.array([0.1, 0.5, -1, 2], dtype=np.float32).reshape(-1, 1, 1)
    assert_agrees(build("y = PRelu(b, slope)", {"slope": slope}))
    assert_agrees(build("y = LeakyRelu <alpha = 0.3> (b)"))
    assert_agrees(build('y = Gelu <approximate = "tanh"> (b)'))


@given(st.integers(0, 99), st.lists(st.integers(-60, 10), min_size=2, max_size=8))
def test_correlations_are_at_most_one_where_covariances_are_rounding_alone(seed: int, exponents: list[int]) -> None:
    noise = 1e-17 * np.random.default_rng(seed).standard_normal((len(exponents), len(exponents)))
    found = normalized(np.diag(10.0 ** np.array(exponents)) + (noise + noise.T) * (1 - np.eye(len(exponents))))
    assert np.abs(found).max() <= 1
    np.testing.assert_array_equal(np.diagonal(found), 1)
