"""Accuracy of models with several outputs, or with none that scores classes: chosen, or told before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import Command, write_model

TOP1_B = "topk:k=1,output=b"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Right by its output ``b``, which is the input, and wrong by ``a``."""
    monkeypatch.chdir(tmp_path)
    body = "a = MatMul(x, turned) b = MatMul(x, kept)"
    weights = "float[3,3] turned = {0,1,0, 0,0,1, 1,0,0}, float[3,3] kept = {1,0,0, 0,1,0, 0,0,1}"
    np.savez("data.npz", x=np.eye(3, dtype=np.float32), labels=np.arange(3))
    return write_model(Path("two.onnx"), "float[N,3] x", "float[N,3] a, float[N,3] b", body, weights)


def test_which_of_several_outputs_is_scored_is_asked_before_any_work(intaglio: Command, two: Path) -> None:
    given = ("--scheme", "w8", "--eval-data", "data.npz", "--no-measure", "--force")
    for command in (("quantize", two, "-o", "q.onnx", *given), ("bisect", two, two, "--data", "data.npz")):
        ran = intaglio(*command)
        assert ran.code == 2
        assert "choose one: --metric topk:k=1,output=a" in ran.err
    assert {one.name for one in Path().iterdir()} == {"two.onnx", "data.npz"}
    ran = intaglio("quantize", two, "-o", "q.onnx", *given, "--metric", TOP1_B, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["accuracy"]["after"] == {TOP1_B: 1.0}
    assert ran.json["recipe"]["data"]["metrics"] == [TOP1_B]
    assert intaglio("compress", two, "-o", "again", "--recipe", "q.onnx", "--no-measure").code == 0
    assert Path("again/model.onnx").read_bytes() == Path("q.onnx").read_bytes()
    ran = intaglio("quantize", two, "-o", "q2.onnx", *given, "--metric", "topk:k=1,output=c")
    assert (ran.code, "there is no output 'c'" in ran.err) == (2, True)


def test_bisect_goes_by_the_metric_that_is_named(intaglio: Command, two: Path) -> None:
    body = "a = MatMul(x, turned) b = MatMul(x, kept)"
    weights = "float[3,3] turned = {0,1,0, 0,0,1, 1,0,0}, float[3,3] kept = {0,0,1, 1,0,0, 0,1,0}"
    bad = write_model(Path("bad.onnx"), "float[N,3] x", "float[N,3] a, float[N,3] b", body, weights)
    told = intaglio("bisect", two, bad, "--data", "data.npz", "--metric", TOP1_B, "--json").json
    assert told["responsible"] == ["b"]
    assert told["accuracy"]["before"] == {TOP1_B: 1.0}
    other = intaglio("bisect", two, bad, "--data", "data.npz", "--metric", "topk:k=1,output=a", "--json").json
    assert other["responsible"] == []
    loss = intaglio("bisect", two, bad, "--data", "data.npz", "--metric", "f1:output=b", "--json").json
    assert loss["responsible"] == ["b"]


def test_agreement_of_outputs_that_score_no_classes_is_refused(intaglio: Command, two: Path) -> None:
    wide = write_model(
        Path("wide.onnx"), "float[N,3] x", "float[N,3,1] y", "t = MatMul(x, w) y = Unsqueeze(t, axes)",
        "float[3,3] w = {1,0,0, 0,1,0, 0,0,1}, int64[1] axes = {2}",
    )  # fmt: skip
    given = ("quantize", wide, "-o", "q.onnx", "--scheme", "w8", "--data", "data.npz", "--no-measure", "--force")
    ran = intaglio(*given, "--gate", "agreement >= 0.5")
    assert (ran.code, "no output is (samples, classes)" in ran.err) == (2, True)
    assert not Path("q.onnx").exists()
    assert intaglio(*given, "--gate", "sqnr >= 5dB").code == 0


def test_labels_that_are_missing_are_told_before_any_work(intaglio: Command, two: Path) -> None:
    np.savez("plain.npz", x=np.eye(3, dtype=np.float32))
    given = ("--recipe", "weights-4bit", "--eval-data", "plain.npz", "--no-measure")
    ran = intaglio("compress", two, "-o", "out", *given)
    assert (ran.code, "has no labels" in ran.err) == (1, True)
    assert not Path("out").exists()
