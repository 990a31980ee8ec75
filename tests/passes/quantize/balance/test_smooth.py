"""Smoothed models compute what they did, with even channels where there were outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.precision.decibels import sqnr_db
from intaglio.passes.quantize.balance.smooth import smooth
from intaglio.passes.quantize.schemes.dynamic import dynamic_int8
from intaglio.passes.rewrite.edit import Outcome
from tests import zoo
from tests.passes.parsed import data_for, parsed, run_plainly
from tests.passes.quantize.transformers import Norm, encoder, tokens


def smoothed(model: Model, x: np.ndarray, alpha: float = 0.5) -> Outcome:
    """A smoothed model whose outputs have been found equal."""
    (name,) = [v.name for v in model.graph.input]
    done = smooth(model, data_for(model, **{name: x}), alpha=alpha)
    expected, found = (run(open_session(m), {name: x}) for m in (model, done.model))
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
    return done


@pytest.mark.parametrize(
    ("opset", "norm"), [(13, "decomposed"), (13, "rms"), (17, "fused"), (21, "fused"), (21, "rms")]
)
def test_outliers_move_into_weights_and_integers_get_better(opset: int, norm: Norm) -> None:
    model, x = encoder(opset, norm), tokens(8)
    done = smoothed(model, x)
    assert set(done.done) == {f"{name}{block}" for name in ("q", "k", "v", "wide") for block in (0, 1)}
    assert len(done.model.graph.node) == len(model.graph.node)
    before, after = (spread(m, x) for m in (model, done.model))
    assert after < before / 3
    exact = run(open_session(model), {"x": x})["y"]
    rough, better = (
        sqnr_db(exact, run(open_session(dynamic_int8(m, smallest=64).model), {"x": x})["y"])
        for m in (model, done.model)
    )
    assert better > rough + 3


def spread(model: Model, x: np.ndarray) -> float:
    """How much larger the largest channel of what the first projection reads is than the median one."""
    tensor = next(n.input[0] for n in model.graph.node if n.name == "q0")
    peaks = np.abs(run_plainly(model, {"x": x}, [tensor])[tensor]).max((0, 1))
    return float(peaks.max() / np.median(peaks))


def test_scales_are_those_of_the_paper() -> None:
    model, x = encoder(17, depth=1), tokens(8)
    norm = next(n for n in model.graph.node if n.op_type == "LayerNormalization")
    peaks = np.abs(run_plainly(model, {"x": x}, [norm.output[0]])[norm.output[0]]).max((0, 1)).astype(np.float64)
    columns = np.max([np.abs(model.weights[f"{p}0_weight"]).max(1) for p in "qkv"], axis=0).astype(np.float64)
    for alpha in (0.3, 0.8):
        done = smoothed(model, x, alpha=alpha)
        scale = peaks**alpha / columns ** (1 - alpha)
        np.testing.assert_allclose(done.model.weights[norm.input[1]], model.weights[norm.input[1]] / scale, rtol=1e-5)
        for p in "qkv":
            weight = model.weights[f"{p}0_weight"] * scale[:, None]
            np.testing.assert_allclose(done.model.weights[f"{p}0_weight"], weight, rtol=1e-5)


@pytest.mark.parametrize("name", ["vit", "torch_encoder", "levit", "resnet", "mobilenet_v1"])
def test_exported_networks_stay_equal(zoo_folder: Path, name: str) -> None:
    model = load(zoo.build(name, "legacy17", zoo_folder))
    feeds = zoo.random_inputs(name)
    done = smoothed(model, next(iter(feeds.values())))
    assert done.done
    assert all(done.skipped.values())


CASES: dict[str, tuple[str, str, str]] = {
    "input": ("y = MatMul(x, w)", "", "input of the model"),
    "gelu": ("g = Gelu(x) y = MatMul(g, w)", "", "Gelu makes it"),
    "residual": ("s = Mul(x, c) n = Relu(s) a = MatMul(n, w) y = Add(a, n)", "float[32] c", "more than layers"),
    "product": ("s = Sigmoid(x) m = Mul(x, s) y = MatMul(m, w)", "", "product of two tensors"),
    "scalar": ("m = Mul(x, c) y = MatMul(m, w)", "float[1] c", "no value for each channel"),
    "shared": ("m = Mul(x, c) n = Add(m, c) y = MatMul(n, w)", "float[32] c", "other nodes use"),
    "shared weight": (
        "m = Mul(x, c) a = MatMul(m, w) r = Relu(a) y = MatMul(r, w)",
        "float[32] c",
        "use its weights too",
    ),
    "read before": ("m = Mul(x, c) n = Relu(m) a = MatMul(n, w) y = Add(a, m)", "float[32] c", "2 nodes read"),
}


@pytest.mark.parametrize("case", CASES)
def test_inputs_that_cannot_be_scaled_say_why(case: str) -> None:
    nodes, more, reason = CASES[case]
    weights = ", ".join(filter(None, ["float[32, 32] w", more]))
    model = parsed("float[N, 5, 32] x", "float[N, 5, 32] y", weights, nodes)
    if "Gelu" in nodes:
        model.proto.opset_import[0].version = 20
    x = tokens(4, 5) * np.float32(10.0) ** np.random.default_rng(1).uniform(-1, 1, 32).astype(np.float32)
    done = smoothed(model, x)
    assert any(reason in told for told in done.skipped.values()), done.skipped


def test_convolutions_behind_a_rectifier_are_smoothed_into_the_layer_before() -> None:
    nodes = "a = Conv(x, w1, b1) r = Relu(a) y = Conv<group = 2>(r, w2)"
    weights = "float[8, 4, 3, 3] w1, float[8] b1, float[6, 4, 1, 1] w2"
    model = parsed("float[N, 4, 8, 8] x", "float[N, 6, 6, 6] y", weights, nodes)
    x = np.random.default_rng(0).standard_normal((4, 4, 8, 8)).astype(np.float32)
    done = smoothed(model, x)
    assert list(done.done) == ["y"]
    assert not np.array_equal(done.model.weights["w1"], model.weights["w1"])


def test_channels_that_are_always_zero_stay_as_they_are() -> None:
    model = parsed(
        "float[N, 5, 32] x", "float[N, 5, 8] y", "float[32] c, float[32, 8] w", "m = Mul(x, c) y = MatMul(m, w)"
    )
    x = tokens(4, 5)
    x[..., 7] = 0
    done = smoothed(model, x)
    assert done.model.weights["c"][7] == model.weights["c"][7]
    np.testing.assert_array_equal(done.model.weights["w"][7], model.weights["w"][7])
