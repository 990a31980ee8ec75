"""Ranges and biases without data: what normal inputs really do, and a real network that keeps its accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.errors import BadData, UsageError
from intaglio.graph.io.load import load
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.calibration.normal.correction import bias_correction
from intaglio.passes.precision.grid import WEIGHTS8, Affine, Grid, affine
from intaglio.passes.quantize.balance.bias_absorption import absorb_high_biases
from intaglio.passes.quantize.balance.equalize import equalize
from intaglio.passes.quantize.ranges.datafree import (
    StatisticsMissing,
    ranges,
    statistics,
)
from intaglio.passes.rewrite.edit import Edit
from intaglio.passes.simplify import fold_batch_norm, with_biases
from tests.passes.parsed import parsed, run_plainly

WEIGHTS = "float[6, 3, 1, 1] w, float[6] g, float[6] s, float[6] m, float[6] v, float[4, 6, 1, 1] u, float[4] b"


def normalized(between: str) -> Model:
    """A 1x1 convolution whose outputs are as its BatchNormalization says, if inputs are white."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((6, 3, 1, 1)).astype(np.float32)
    values = {
        "w": w,
        "m": np.zeros(6),
        "v": np.square(w).sum((1, 2, 3)),
        "g": rng.uniform(-1, 1, 6),
        "s": rng.standard_normal(6),
    }
    nodes = f"a = Conv(x, w) n = BatchNormalization(a, g, s, m, v) {between} y = Conv(r, u, b)"
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    return parsed("float[N, 3, 32, 32] x", "float[N, 4, H, W] y", WEIGHTS, nodes, **arrays)


def white(samples: int = 40) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((samples, 3, 32, 32)).astype(np.float32)


BETWEEN = {
    "rectified": "r = Relu(n)",
    "leaking": "r = LeakyRelu<alpha = 0.1>(n)",
    "smooth": "t = Sigmoid(n) r = Mul(n, t)",
    "summed": "q = Relu(n) r = Add(q, n)",
    "pooled": "q = Relu(n) r = MaxPool<kernel_shape = [2, 2]>(q)",
}


@pytest.mark.parametrize("between", BETWEEN)
def test_ranges_hold_what_normal_channels_do_and_not_much_more(between: str) -> None:
    model = normalized(BETWEEN[between])
    found = ranges(model, {"x": (-6, 6)})
    folded = fold_batch_norm(model)[0]
    assert set(found) == {"x", *(o for n in folded.graph.node for o in n.output)}
    assert found["x"] == (-6, 6)
    for name, values in run_plainly(folded, {"x": white()}, ["n", "r"]).items():
        low, high = found[name]
        assert low - 1e-4 <= values.min()
        assert values.max() <= high + 1e-4
        assert high - low <= 1.8 * (values.max() - values.min())
    assert ("q" not in found) or found["q"][0] == 0


def test_ranges_follow_inputs_through_what_scales_them() -> None:
    nodes = """d = Div(x, c) t = Transpose<perm = [0, 3, 1, 2]>(d) m = Sub(t, mean) q = Sub(one, m) e = Div(one, t)
               a = Conv(q, w) n = BatchNormalization(a, g, s, u, v) r = Relu(n) z = GlobalAveragePool(e) y = Add(r, z)"""
    weights = (
        "float c, float[3, 1, 1] mean, float one, float[3, 3, 1, 1] w, float[3] g, float[3] s, float[3] u, float[3] v"
    )
    values = {"c": np.array(255.0), "mean": np.array([0.25, 0.5, 0.75]).reshape(3, 1, 1), "one": np.array(1.0)}
    model = parsed(
        "float[N, 8, 8, 3] x",
        "float[N, 3, 8, 8] y",
        weights,
        nodes,
        **{k: v.astype(np.float32) for k, v in values.items()},
    )
    found = ranges(model, {"x": (0, 255)})
    assert found["t"] == found["d"] == (0, 1)
    assert found["m"] == (-0.75, 0.75)
    assert found["q"] == (0.25, 1.75)
    assert "e" not in found  # one over nought
    assert "y" not in found


def test_equalized_models_tell_ranges_of_their_own() -> None:
    model = normalized(BETWEEN["rectified"])
    changed = equalize(model).model
    expected = run_plainly(changed, {"x": white()}, ["r"])["r"].max((0, 2, 3))
    found = statistics(changed)["r"]
    assert (expected <= found.values().max(-1).reshape(-1)).all()
    assert ranges(changed, {"x": (-6, 6)})["r"] != ranges(model, {"x": (-6, 6)})["r"]


def test_corrected_biases_undo_the_mean_of_what_rounding_adds() -> None:
    model = normalized(BETWEEN["rectified"])
    folded = fold_batch_norm(model)[0]
    rng = np.random.default_rng(3)
    changed = {"u": folded.weights["u"] + 0.2 * rng.standard_normal((4, 6, 1, 1)).astype(np.float32)}
    done = bias_correction(folded, changed, statistics(model))
    assert list(done) == ["b"]

    def outputs(weights: Mapping[str, np.ndarray]) -> np.ndarray:
        variant = folded.copy()
        variant.weights.update(weights)
        return run(open_session(variant), {"x": white(200)})["y"].mean((0, 2, 3))

    exact, rounded, corrected = (outputs(w) for w in ({}, changed, {**changed, **done}))
    assert np.abs(corrected - exact).max() < 0.03 * np.abs(rounded - exact).max()


def test_layers_without_a_bias_or_behind_an_unknown_input_get_no_correction() -> None:
    model = normalized(BETWEEN["rectified"])
    folded = fold_batch_norm(model)[0]
    first = next(iter(Layers(folded)))
    changed = {first.weight: folded.weights[first.weight] + np.float32(0.5), "u": folded.weights["u"] + np.float32(1)}
    assert list(bias_correction(folded, changed, statistics(model))) == ["b"]
    plain = parsed("float[N, 3, 4, 4] x", "float[N, 4, 4, 4] y", "float[4, 3, 1, 1] w", "y = Conv(x, w)")
    assert not bias_correction(plain, plain.weights, {"x": statistics(model)["n"]})


def test_what_is_missing_is_said() -> None:
    model = normalized(BETWEEN["rectified"])
    with pytest.raises(StatisticsMissing, match="range of the input 'x' is not known"):
        ranges(model)
    with pytest.raises(StatisticsMissing, match="not known without data") as caught:
        ranges(fold_batch_norm(model)[0], {"x": (-1, 1)})
    assert "folded before" in caught.value.why
    assert "PRESERVE" in caught.value.fix
    with pytest.raises(BadData, match=r"from 1\.0 to -1\.0"):
        ranges(model, {"x": (1, -1)})
    with pytest.raises(UsageError, match="no input 'z'"):
        ranges(model, {"x": (-1, 1), "z": (0, 1)})


def simulated(model: Model, found: Mapping[str, tuple[float, float]], biases: Mapping[str, np.ndarray]) -> Model:
    """Weights on a grid of 8 bits for each channel, and each activation of known range as it is with 8 bits.

    Rounding of activations is written with operators that are no quantizers, so that nothing is fused away.
    """
    quantized = model.copy()
    quantized.weights.update({**rounded(model), **biases})
    edit = Edit(quantized)
    outputs = {o.name for o in model.graph.output}
    renamed: dict[str, str] = {}

    def through_integers(name: str) -> None:
        form: Affine = affine(*found[name], Grid(8, signed=False))
        low, high = (np.array(end, np.float32) for end in form.range)
        limits = [edit.constant(f"{name}_{k}", v) for k, v in (("low", low), ("high", high), ("scale", form.scale))]
        clipped = edit.add("Clip", [name, *limits[:2]], f"{name}_clipped")
        steps = edit.add("Round", [edit.add("Div", [clipped, limits[2]], f"{name}_steps")], f"{name}_rounded")
        renamed[name] = edit.add("Mul", [steps, limits[2]], f"{name}_8bit")

    for value in model.graph.input:
        through_integers(value.name)
    for node in quantized.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = renamed.get(name, name)
        edit.keep(node)
        if node.output[0] in found and node.output[0] not in outputs:
            through_integers(node.output[0])
    return edit.finish()


def rounded(model: Model) -> dict[str, np.ndarray]:
    found = {}
    for layer in Layers(model):
        matrix = layer.matrix(model.weights[layer.weight])
        scale = np.abs(matrix).max(axis=2, keepdims=True) / WEIGHTS8.high
        found[layer.weight] = layer.weight_like(WEIGHTS8.round(matrix, scale) * scale, model.weights[layer.weight])
    return found


@pytest.mark.parametrize("equalized", [False, True])
def test_a_real_network_in_8_bits_keeps_its_accuracy_without_data(shared_data: Path, equalized: bool) -> None:
    """250 images; on all 2,000 it is 91.55 in float, 91.60 to 91.70 in 8 bits."""
    model = load(shared_data / "resnet20-bn.onnx")
    if equalized:
        model = absorb_high_biases(equalize(model).model).model
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    with np.load(shared_data / "cifar10_test_first2000.npz") as images:
        x, labels = images["x"][:250], images["y"][:250]
    x = ((x / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    folded = with_biases(fold_batch_norm(model)[0])
    found = ranges(model, {"input": (float((-mean / std).min()), float(((1 - mean) / std).max()))})
    fixed = bias_correction(folded, rounded(folded), statistics(model))
    assert len(fixed) == 19
    exact, quantized = (
        float((run(open_session(m), {"input": x})["logits"].argmax(1) == labels).mean())
        for m in (folded, simulated(folded, found, fixed))
    )
    assert quantized >= exact - 0.012
