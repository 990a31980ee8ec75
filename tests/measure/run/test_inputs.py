"""Made-up inputs have the shapes and types of the graph, are repeatable, and the model runs on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intaglio.graph.errors import BadModel
from intaglio.measure.run import inputs
from intaglio.measure.run.inputs import random_inputs, runnable_inputs
from intaglio.measure.run.session import run
from tests.passes.parsed import parsed

from ..conftest import MakeModel


def test_a_seed_gives_the_same_inputs_and_another_gives_others(make_model: MakeModel) -> None:
    model = make_model("float[N,8] x, int8[4] q", "float[N,8] y", "y = Relu(x)")
    first, again, other = (random_inputs(model, seed=s) for s in (0, 0, 1))
    assert all((first[n] == again[n]).all() for n in first)
    assert any((first[n] != other[n]).any() for n in first)
    assert {n: (a.dtype.name, a.shape) for n, a in first.items()} == {"x": ("float32", (2, 8)), "q": ("int8", (4,))}


def test_symbolic_dimensions_take_the_numbers_given(make_model: MakeModel) -> None:
    model = make_model("float[N,H] x, bool[H] m", "float[N,H] y", "y = Relu(x)")
    inputs = random_inputs(model, dims={"N": 3, "H": 5})
    assert (inputs["x"].shape, inputs["m"].shape, inputs["m"].dtype.name) == ((3, 5), (5,), "bool")


@pytest.mark.parametrize(
    "route", ["y = Gather(table, i)", "j = Cast <to = 7> (i) k = Unsqueeze(j, zero) y = Gather(table, k)"]
)
def test_integers_that_index_a_table_are_rows_of_it(make_model: MakeModel, route: str) -> None:
    weights = "float[2,3] table = {1, 2, 3, 4, 5, 6}, int64[1] zero = {0}"
    model = make_model("int32[N,40] i", "float y", route, weights)
    values = {int(v) for seed in range(5) for v in runnable_inputs(model, seed=seed)["i"].reshape(-1)}
    assert values == {0, 1}


def test_an_index_into_an_activation_stays_inside_it(make_model: MakeModel) -> None:
    model = make_model("float[N,3] x, int64[50] i", "float[N,50] y", "y = Gather <axis = 1> (x, i)")
    assert runnable_inputs(model)["i"].max() < 3


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[2,6] x, int64[3] s", "y = Reshape(x, s)"),
        ("float[1,6] x, int64[2] s", "y = Expand(x, s)"),
        ("float[2,6] x, int64[1] s", "y, i = TopK(x, s)"),
        ("float[2,6] x, int64[1] s", "y = Unsqueeze(x, s)"),
    ],
)
def test_an_input_that_is_a_shape_or_a_count_is_a_valid_one(make_model: MakeModel, inputs: str, body: str) -> None:
    assert set(runnable_inputs(make_model(inputs, "float y", body))) == {"x", "s"}


def test_sizes_are_tried_until_the_model_runs(make_model: MakeModel) -> None:
    model = make_model(
        "float[N,1,H,W] x",
        "float[M,2] y",
        "f = Reshape(x, s) y = MatMul(f, w)",
        f"int64[2] s = {{-1, 1024}}, float[1024,2] w = {{{', '.join(['0.5'] * 2048)}}}",
    )
    shape = runnable_inputs(model)["x"].shape
    assert (shape[0] * shape[2] * shape[3]) % 1024 == 0


def test_a_window_of_audio_is_long_enough(make_model: MakeModel) -> None:
    model = make_model("float[N,1,S] x", "float[N,1,T] y", "y = MaxPool <kernel_shape=[400]> (x)")
    assert runnable_inputs(model)["x"].shape[2] >= 400


def test_a_model_exported_for_one_sample_gets_one(make_model: MakeModel) -> None:
    model = make_model("float[N,6] x", "float[1,2,3] y", "y = Reshape(x, s)", "int64[3] s = {1, 2, 3}")
    assert runnable_inputs(model)["x"].shape == (1, 6)


def test_a_model_that_never_runs_says_what_was_wrong(make_model: MakeModel) -> None:
    model = make_model("float[N,6] x", "float y", "y = Reshape(x, s)", "int64[2] s = {7, 11}")
    with pytest.raises(BadModel, match="made-up") as caught:
        runnable_inputs(model)
    assert "Reshape" in caught.value.why


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[1,1,4,4] x, float[4] s", 'e = Cast <to = 1> (z) y = Resize <mode = "nearest"> (x, e, s)'),
        ("int32[8] x, int32[8] s", "y = Div(x, s)"),
    ],
)
def test_scales_and_divisors_are_positive_where_the_model_asks_for_it(
    make_model: MakeModel, inputs: str, body: str
) -> None:
    model = make_model(inputs, "float y" if "float" in inputs else "int32 y", body, "float[0] z = {}")
    assert (runnable_inputs(model)["s"] > 0).all()


def test_what_fails_at_small_sizes_is_not_tried_at_ones_that_take_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "c = MatMul(x, w) r = Reshape(c, s) y = Relu(r)"
    model = parsed("float[N, 8] x", "float[m] y", "float[8, 8] w, int64[1] s", text, s=np.array([7]))
    monkeypatch.setattr(inputs, "_MOST_MACS", 8 * 8 * 100)
    tried: list[int] = []

    def noted(session: Any, feed: Any, **how: Any) -> Any:
        tried.append(len(feed["x"]))
        return run(session, feed, **how)

    monkeypatch.setattr(inputs, "run", noted)
    with pytest.raises(BadModel, match="made-up"):
        runnable_inputs(model)
    assert tried[:2] == [2, 1]
    assert 16 <= max(tried) <= 100
