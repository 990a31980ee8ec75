"""``intaglio bench`` times models and says on what machine, with what threads, on what input."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command, write_model


def test_a_model_is_timed(intaglio: Command, classifier: Path) -> None:
    ran = intaglio("bench", classifier, "--runs", 25, "--json")
    (row,) = ran.json["models"]
    assert ran.code == 0
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"]
    assert (row["runs"], row["inputs"], ran.json["threads"]) == (25, {"x": [1, 3]}, 1)
    assert "onnxruntime" in ran.json["machine"]


def test_several_models_are_set_against_the_first(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    weights = f"float[3,60000] a = {{{', '.join(['0.1'] * 180000)}}}"
    slow = write_model(
        tmp_path / "slow.onnx",
        "float[N,3] x",
        "float[N,3] y",
        "h = MatMul(x, a) y = Slice(h, s, e, t)",
        weights + ", int64[1] s = {0}, int64[1] e = {3}, int64[1] t = {1}",
    )
    ran = intaglio("bench", classifier, slow, "--runs", 30, "--json")
    fast, heavy = ran.json["models"]
    assert (fast["verdict"], heavy["verdict"]) == ("base", "slower")
    assert heavy["speedup"] < 1
    assert "slower" in intaglio("bench", classifier, slow, "--runs", 30).out


def test_the_batch_and_the_pinned_shape_are_what_is_run(intaglio: Command, classifier: Path) -> None:
    assert intaglio("bench", classifier, "--batch", 4, "--runs", 1, "--json").json["models"][0]["inputs"] == {
        "x": [4, 3]
    }
    pinned = intaglio("bench", classifier, "--shape", "x:7,3", "--runs", 1, "--json")
    assert pinned.json["models"][0]["inputs"] == {"x": [7, 3]}


def test_real_data_can_be_timed(intaglio: Command, classifier: Path, labelled: Path) -> None:
    ran = intaglio("bench", classifier, "--data", labelled, "--batch", 2, "--runs", 1, "--json")
    assert ran.json["models"][0]["inputs"] == {"x": [2, 3]}


@pytest.mark.parametrize("args", [("--preprocess", "unit"), ("--data", "nowhere.npz"), ("--shape", "z:1,2")])
def test_options_that_fit_nothing_are_refused(intaglio: Command, classifier: Path, args: tuple[str, str]) -> None:
    ran = intaglio("bench", classifier, *args)
    assert ran.code in (1, 2)
    assert "fix: " in ran.err
