"""Layers that make up for what rounding takes from their inputs: never predicted worse, and nearer where filters repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.errors import UsageError
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.calibration.normal.moments import gaussian, moments
from intaglio.passes.calibration.normal.restore import lost_and_left
from intaglio.passes.calibration.restoring import round_restoring
from intaglio.passes.precision.grid import Grid
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.rounding.rounding import Spec
from intaglio.passes.simplify import fold_batch_norm, with_biases
from tests.passes.parsed import data_for, parsed

BN = "float[8] g, float[8] b, float[8] m, float[8] v"


def network(seed: int, act: str = "Relu") -> Model:
    rng = np.random.default_rng(seed)
    values = {
        "w": rng.standard_normal((8, 3, 3, 3)),
        "k": rng.standard_normal((6, 8, 3, 3)) / 8,
        "g": rng.uniform(0.5, 2, 8) * rng.choice([-1, 1], 8),
        "b": rng.standard_normal(8),
        "m": np.zeros(8),
        "v": np.full(8, 27.0),
    }
    nodes = (
        f"a = Conv(x, w) n = BatchNormalization(a, g, b, m, v) r = {act}(n) c = Conv(r, k, o) y = GlobalAveragePool(c)"
    )
    weights = f"float[8, 3, 3, 3] w, {BN}, float[6, 8, 3, 3] k, float[6] o"
    arrays = {name: np.asarray(a, np.float32) for name, a in values.items()}
    return parsed("float[N, 3, 12, 12] x", "float[N, 6, 1, 1] y", weights, nodes, **arrays)


def walk(model: Model, bits: int) -> Any:
    folded = with_biases(fold_batch_norm(model)[0])
    rules = {one.node: Spec(Grid(bits), ("nearest",)) for one in Layers(folded)}
    return folded, round_restoring(folded, rules, model)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.sampled_from(["Relu", "Sigmoid", "HardSwish"]))
def test_the_predicted_error_is_never_above_that_of_plain_rounding(seed: int, bits: int, act: str) -> None:
    _, walked = walk(network(seed, act), bits)
    ((plain, restored),) = walked.predicted.values()
    assert 0 < restored <= plain
    assert len(walked.rounded) == 2


def test_the_prediction_is_what_white_inputs_give() -> None:
    """Filters on white noise, rectified: the covariances of what is lost and left are those of a million samples."""
    rng = np.random.default_rng(0)
    filters = rng.standard_normal((4, 6))
    rounded = np.round(filters)
    size = np.linalg.norm(filters, axis=1)
    u = rng.standard_normal((1_000_000, 6))
    mean, deviation = rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    y, z = (np.maximum(mean + deviation * (u @ rows.T) / size, 0) for rows in (filters, rounded))
    wanted = np.cov(np.concatenate([y - z, z], axis=1).T)
    nodes = "a = Gemm <transB = 1> (x, w) n = BatchNormalization(a, g, b, m, v) y = Relu(n)"
    values = {"w": filters, "g": deviation, "b": mean, "m": np.zeros(4), "v": np.ones(4)}
    model = parsed(
        "float[N, 6] x",
        "float[N, 4] y",
        "float[4, 6] w, float[4] g, float[4] b, float[4] m, float[4] v",
        nodes,
        **{name: np.asarray(a, np.float32) for name, a in values.items()},
    )
    found = lost_and_left(moments(model, correlated=True)["y"], filters, rounded)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_nothing_is_lost_where_nothing_is_rounded() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 9))
    x = gaussian("x", np.zeros((1, 5)), np.ones((1, 5)))
    gram = lost_and_left(x, rows, rows)
    np.testing.assert_allclose(gram[:5], 0, atol=1e-12)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(gram[5:, 5:], units @ units.T, atol=1e-6)


def test_outputs_on_white_noise_are_nearer() -> None:
    """Few bits and inputs as the closed form takes them: the network itself is nearer than by plain rounding."""
    x = np.random.default_rng(1).standard_normal((256, 3, 12, 12)).astype(np.float32)
    gains = []
    for seed in range(6):
        model = network(seed)
        wanted = run(open_session(model), {"x": x})["y"]
        errors = {}
        for repair in ("none", "udfc"):
            options = {"scheme": "w2", "protect": False, "method": "nearest", "repair": repair, "verify": False}
            made = Quantize.model_validate({**options, "layer_bits": (), "target": "generic"}).run(model, Context())
            errors[repair] = float(np.square(run(open_session(made.model), {"x": x})["y"] - wanted).mean())
        gains.append(errors["udfc"] / errors["none"])
    assert np.mean(gains) < 1


def test_a_report_says_what_was_made_up_for() -> None:
    made = Quantize(scheme="w3", repair="udfc").run(network(0), Context())
    assert any("udfc" in note and "predicted to fall" in note for note in made.notes)


def test_what_cannot_be_restored_is_refused() -> None:
    model = network(0)
    with pytest.raises(UsageError, match="without data"):
        Quantize(scheme="w4", repair="udfc").run(
            model, Context(data=data_for(model, x=np.zeros((4, 3, 12, 12), np.float32)))
        )
    with pytest.raises(UsageError, match="finds nothing"):
        Quantize(scheme="w4", repair="udfc").run(fold_batch_norm(model)[0], Context())
    with pytest.raises(UsageError, match="fp16"):
        Quantize(scheme="fp16", repair="udfc")
