"""``intaglio bisect`` finds what was broken on purpose: a layer, or a pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, TEST, CALIB = (EXAMPLES / name for name in ("digits.onnx", "digits_test.npz", "digits_calib.npz"))
LAYERS = {
    "second.2.0.weight": "/second/second.2/second.2.0/Conv",
    "depthwise.0.weight": "/depthwise/depthwise.0/Conv",
    "head.weight": "/head/Gemm",
}


def broken(source: Path, out: Path, weights: list[str], change: Callable[[np.ndarray], np.ndarray]) -> Path:
    model = onnx.load(source)
    for held in model.graph.initializer:
        if held.name in weights:
            held.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(held)), held.name))
    onnx.save(model, out)
    return out


def flipped(weight: np.ndarray) -> np.ndarray:
    other = weight.copy()
    other[::2] = -3 * other[::2]
    return other


NOISE = ("--sqnr", 20)


@pytest.mark.parametrize("weight", list(LAYERS))
def test_a_layer_that_was_broken_is_found(intaglio: Command, tmp_path: Path, weight: str) -> None:
    bad = broken(DIGITS, tmp_path / "bad.onnx", [weight], flipped)
    told = intaglio("bisect", DIGITS, bad, "--data", TEST, *NOISE, "--json").json
    assert told["output_sqnr_db"] < 20
    assert len(told["responsible"]) == 1
    worst = told["layers"][0]
    assert worst["tensor"] == told["responsible"][0]
    assert LAYERS[weight] in worst["nodes"]
    assert worst["restored_sqnr_db"] is None or worst["restored_sqnr_db"] > 100
    seen = intaglio("bisect", DIGITS, bad, "--data", TEST, *NOISE).out
    assert f"this one is responsible, without which the outputs are above 20 dB: {worst['tensor']}" in seen


def test_labels_say_which_layer_costs_accuracy(intaglio: Command, tmp_path: Path) -> None:
    """One layer is noisy and turns no answer; another adds less noise and turns many."""

    def noisier(weight: np.ndarray) -> np.ndarray:
        return weight * 1.5

    bad = broken(
        broken(DIGITS, tmp_path / "bad.onnx", ["head.weight"], noisier),
        tmp_path / "bad.onnx",
        ["second.2.0.weight"],
        flipped,
    )
    told = intaglio("bisect", DIGITS, bad, "--data", TEST, "--json").json
    before, after = (told["accuracy"][side]["top1"] for side in ("before", "after"))
    assert (told["samples"], told["max_drop"], told["good_db"]) == (256, 1.0, None)
    assert before - after > 0.05
    worst = told["layers"][0]
    assert LAYERS["second.2.0.weight"] in worst["nodes"]
    assert told["responsible"] == [worst["tensor"]]
    assert worst["restored_accuracy"] == before
    head = next(one for one in told["layers"] if LAYERS["head.weight"] in one["nodes"])
    assert head["restored_accuracy"] == after
    seen = intaglio("bisect", DIGITS, bad, "--data", TEST).out
    assert f"top1: {before:.2%}".replace("%", " %") in seen
    assert "without which the outputs lose no more than 1 point: " in seen
    by_noise = intaglio("bisect", DIGITS, bad, "--data", TEST, *NOISE, "--json").json
    assert len(by_noise["responsible"]) == 2
    assert by_noise["accuracy"] is None


def test_an_output_that_is_one_number_has_no_accuracy(intaglio: Command, tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    scores = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("ReduceMax", [scores], ["highest"], keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info("highest", onnx.TensorProto.FLOAT, []))
    onnx.save(model, tmp_path / "two.onnx")
    bad = broken(tmp_path / "two.onnx", tmp_path / "bad.onnx", ["head.weight"], flipped)
    told = intaglio("bisect", tmp_path / "two.onnx", bad, "--data", TEST)
    assert told.code == 1
    assert "output 'highest' has shape () for 32 samples" in told.err
    by_noise = intaglio("bisect", tmp_path / "two.onnx", bad, "--data", TEST, *NOISE, "--json").json
    assert LAYERS["head.weight"] in by_noise["layers"][0]["nodes"]


def test_two_layers_are_found_together(intaglio: Command, tmp_path: Path) -> None:
    bad = broken(DIGITS, tmp_path / "bad.onnx", ["second.2.0.weight", "head.weight"], flipped)
    told = intaglio("bisect", DIGITS, bad, "--data", TEST, *NOISE, "--json").json
    nodes = [one["nodes"] for one in told["layers"] if one["tensor"] in told["responsible"]]
    assert len(nodes) == 2
    assert {name for names in nodes for name in names} >= {LAYERS["second.2.0.weight"], LAYERS["head.weight"]}
    assert all((one["restored_sqnr_db"] or 1000) < 20 for one in told["layers"])


def test_a_good_result_has_nobody_responsible(intaglio: Command, tmp_path: Path) -> None:
    assert intaglio("bisect", DIGITS, DIGITS, "--data", TEST, "--json").json["responsible"] == []
    out = tmp_path / "int8.onnx"
    assert intaglio("quantize", DIGITS, "-o", out, "--data", CALIB, "--no-measure").code == 0
    told = intaglio("bisect", DIGITS, out, "--data", TEST, "--json").json
    assert told["responsible"] == []
    assert 0 < told["layers"][0]["own_sqnr_db"] < 60
    hard = intaglio("bisect", DIGITS, out, "--data", TEST, "--sqnr", 1000, "--top", 2, "--json").json
    assert hard["responsible"] is None


def test_the_pass_that_did_it_is_found(intaglio: Command, tmp_path: Path) -> None:
    recipe, out = tmp_path / "r.yaml", tmp_path / "out"
    text = "passes:\n- pass: prune\n  keep: 0.9\n- pass: quantize\n  scheme: w2\n  method: nearest\n"
    recipe.write_text(text)
    made = intaglio("compress", DIGITS, "-o", out, "--recipe", recipe, "--no-measure", "--data", CALIB)
    assert made.code == 0, made.err
    told = intaglio("bisect", out, "--data", TEST, "--json").json
    assert [one["pass"] for one in told["passes"]] == ["prune", "quantize"]
    assert told["culprit"] == "quantize"
    first, second = (one["accuracy"]["top1"] for one in told["passes"])
    assert first - second > 0.05
    assert told["passes"][0]["sqnr_db"] > told["passes"][1]["sqnr_db"]
    assert told["model"].endswith("01-prune/model.onnx")
    assert "most accuracy is lost by quantize" in intaglio("bisect", out, "--data", TEST).out
    by_noise = intaglio("bisect", out, "--data", TEST, *NOISE)
    assert "most noise comes from quantize" in by_noise.out


def test_what_cannot_be_bisected_is_refused(intaglio: Command, tmp_path: Path) -> None:
    alone = intaglio("bisect", DIGITS, "--data", TEST)
    assert (alone.code, "give A and B" in alone.err) == (2, True)
    both = intaglio("bisect", DIGITS, DIGITS, "--data", TEST, "--max-drop", 1, *NOISE)
    assert (both.code, "exclude each other" in both.err) == (2, True)
    unlabelled = intaglio("bisect", DIGITS, DIGITS, "--data", CALIB, "--max-drop", 1)
    assert (unlabelled.code, "needs labelled data" in unlabelled.err) == (2, True)
    empty = intaglio("bisect", tmp_path, "--data", TEST)
    assert (empty.code, "no folder that compress wrote" in empty.err) == (2, True)
    assert intaglio("bisect", DIGITS, EXAMPLES / "residual.onnx", "--data", TEST).code == 1
