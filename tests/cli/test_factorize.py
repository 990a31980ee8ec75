"""``intaglio factorize``: what it writes, what it tells, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from intaglio.measure.run.session import open_session, run

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"
QUICK = ("--data", CALIB, "--samples", "128", "--no-measure")


def test_it_tells_what_was_split_what_stays_whole_and_what_it_cost(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    ran = intaglio("factorize", DIGITS, "-o", out, "--macs", "0.5", *QUICK, "--eval-data", TEST)
    assert (ran.code, ran.err) == (0, "")
    for text in ("tucker", "no rank pays", "MACs", "top1", "verified: equals", "fitted", f"wrote {out}"):
        assert text in ran.out
    recipe = json.loads(intaglio("inspect", out, "--json").json["metadata"]["intaglio.recipe"])
    (done,) = recipe["passes"]
    assert (done["pass"], done["target"], done["keep"]) == ("factorize", "macs", 0.5)


def test_json_is_one_object_with_every_layer(intaglio: Command, tmp_path: Path) -> None:
    args = ("--macs", "0.5", "--data", CALIB, "--samples", "128", "--eval-data", TEST, "--json")
    result = intaglio("factorize", DIGITS, "-o", tmp_path / "a.onnx", *args).json
    assert result["kept"]["macs"] == pytest.approx(0.5, abs=0.02)
    assert result["verified"]["max_rel_diff"] < 1e-4
    assert result["accuracy"]["after"]["top1"] > result["accuracy"]["before"]["top1"] - 0.02
    assert result["latency_ms"]["speedup"] > 0
    split = [layer for layer in result["layers"] if layer["scheme"]]
    assert split
    assert all(layer["gain"] >= 1.3 and layer["speedup"] >= 1.1 for layer in split)
    assert all(layer["reason"] for layer in result["layers"] if not layer["scheme"])


def test_a_time_is_a_target(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("factorize", DIGITS, "-o", tmp_path / "a.onnx", "--latency", "0.8", "--json", "--force")
    assert ran.code == 0
    found = ran.json["latency_target"]
    assert (found["asked"], found["after_ms"] > 0) == (0.8, True)
    assert found["verdict"] in ("met", "missed", "slower")


def test_without_data_weights_are_truncated(intaglio: Command, tmp_path: Path) -> None:
    result = intaglio("factorize", DIGITS, "-o", tmp_path / "a.onnx", "--params", "0.7", "--no-measure", "--json").json
    assert result["kept"]["params"] <= 0.7
    assert "samples" not in result
    assert {layer["scheme"] for layer in result["layers"]} <= {None, "spatial", "svd"}


def test_evaluation_data_is_never_calibrated_on(intaglio: Command, tmp_path: Path) -> None:
    args = ("--macs", "0.7", "--eval-data", TEST, "--no-measure", "--json")
    assert "samples" not in intaglio("factorize", DIGITS, "-o", tmp_path / "a.onnx", *args).json


def test_the_proof_that_is_written_is_what_the_result_equals(intaglio: Command, tmp_path: Path) -> None:
    out, proof = tmp_path / "a.onnx", tmp_path / "proof.onnx"
    intaglio("factorize", DIGITS, "-o", out, "--macs", "0.6", "--no-measure", "--proof", proof)
    x = {"image": np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)}
    name = intaglio("inspect", out, "--json").json["inputs"][0]["name"]
    a, b = (next(iter(run(open_session(p), {name: x["image"]}).values())) for p in (out, proof))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_factorized_models_can_be_pruned_and_pruned_ones_factorized(intaglio: Command, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{k}.onnx" for k in range(3))
    assert intaglio("factorize", DIGITS, "-o", first, "--macs", "0.7", *QUICK).code == 0
    groups = intaglio("groups", first, "--json").json["groups"]
    factors = [layer["name"] for layer in intaglio("inspect", first, "--json").json["layers"]]
    assert any(name.endswith("/1") for name in factors)
    assert sum(g["prunable"] for g in groups) > 5  # ranks are groups of their own
    pruned = intaglio("prune", first, "-o", second, "--macs", "0.7", *QUICK, "--eval-data", TEST, "--json").json
    assert pruned["verified"]["passed"]
    assert pruned["accuracy"]["after"]["top1"] > 0.95
    assert intaglio("prune", DIGITS, "-o", second, "--macs", "0.7", *QUICK).code == 0
    ran = intaglio("factorize", second, "-o", third, "--macs", "0.7", *QUICK, "--eval-data", TEST, "--json")
    assert ran.code == 0
    assert ran.json["accuracy"]["after"]["top1"] > 0.95


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ((), 2, "no target was given"),
        (("--macs", "0.5", "--params", "0.5"), 2, "exclude each other"),
        (("--macs", "0"), 2, "--macs cannot be 0"),
        (("--rank", "conv"), 2, "cannot read --rank"),
        (("--rank", "conv=0"), 2, "cannot read --rank"),
        (("--rank", "no-such=4"), 2, "no layer 'no-such'"),
        (("--macs", "0.5", "--scheme", "spatail"), 2, "did you mean spatial"),
        (("--macs", "0.5", "--exclude", "no-such"), 2, "matches no group, node"),
        (("--macs", "0.5", "--samples", "4"), 2, "says nothing without"),
        (("--macs", "0.5", "--dialect", "noise", "--data", CALIB), 2, "runs without data"),
        (("--macs", "0.5", "--dialect", "nois"), 2, "--dialect cannot be 'nois'"),
        (("--max-drop", "1"), 2, "needs labelled data"),
        (("--macs", "0.01", "--no-measure"), 1, "lowest reachable is"),
        (("--macs", "0.5", "--data", "no-such.npz"), 1, "no-such.npz"),
        (("--macs", "1", "--no-measure"), 4, "no layer is worth splitting"),
    ],
)
def test_what_cannot_be_ends_with_a_reason(
    intaglio: Command, tmp_path: Path, args: tuple[object, ...], code: int, text: str
) -> None:
    out = tmp_path / "a.onnx"
    ran = intaglio("factorize", DIGITS, "-o", out, *args)
    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err
    assert not out.exists()


def test_a_broken_file_and_a_folder_that_cannot_be_written_are_told(intaglio: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(DIGITS.read_bytes()[:500])
    assert intaglio("factorize", broken, "-o", tmp_path / "a.onnx", "--macs", "0.5").code == 1
    ran = intaglio("factorize", DIGITS, "-o", tmp_path / "none" / "a.onnx", "--macs", "0.5")
    assert ran.code == 1
    assert "none" in ran.err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_before_the_work(intaglio: Command, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    ran = intaglio("factorize", DIGITS, "-o", folder / "a.onnx", "--macs", "0.5")
    assert (ran.code, "read-only" in ran.err) == (1, True)


def test_a_model_without_layers_changes_nothing(intaglio: Command, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", "float[N,3] x", "float[N,3] y", "y = Relu(x)")
    ran = intaglio("factorize", model, "-o", tmp_path / "a.onnx", "--macs", "0.5")
    assert ran.code == 4
    assert "no layers" in ran.err


@pytest.mark.slow
def test_a_residual_network_keeps_its_accuracy(intaglio: Command, tmp_path: Path, shared_data: Path) -> None:
    args = ("--data", shared_data / "cifar10_train_calib2000.npz", "--samples", "128", "--preprocess", "cifar10")
    test = ("--eval-data", shared_data / "cifar10_test_first2000.npz", "--no-measure", "--json")
    out = tmp_path / "a.onnx"
    result = intaglio("factorize", shared_data / "resnet20.onnx", "-o", out, "--macs", "0.6", *args, *test).json
    assert result["kept"]["macs"] <= 0.6
    assert result["accuracy"]["after"]["top1"] > result["accuracy"]["before"]["top1"] - 0.02
