"""Gates hold a result back, whatever they limit, and say what they need before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = (EXAMPLES / name for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
DATA = ("--data", CALIB, "--eval-data", TEST, "--samples", "64")


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """The classifier of three, its last two classes exchanged and its numbers rounded away a little."""
    body = "h = MatMul(x, w) y = Mul(h, two)"
    weights = "float two = {2.0}, float[3,3] w = {1.01,0,0, 0,0,1, 0,1,0}"
    return write_model(tmp_path / "worse.onnx", "float[N,3] x", "float[N,3] y", body, weights)


def value(told: dict[str, Any], gate: str) -> Any:
    return next(one["value"] for one in told["gates"] if one["gate"] == gate)


def test_every_figure_is_what_was_measured(intaglio: Command, tmp_path: Path) -> None:
    limits = ["drop <= 100", "accuracy >= 1%", "top1 >= 0.01", "topk:k=2 >= 0.1", "agreement >= 0.01", "sqnr >= 1dB"]
    limits += ["size <= 1x", "size <= 1GB", "macs <= 1x", "params <= 1M", "latency <= 100x", "latency <= 10s"]
    args = [word for one in limits for word in ("--gate", one)]
    ran = intaglio("quantize", DIGITS, "-o", tmp_path / "a.onnx", "--scheme", "w4", *DATA, *args, "--json")
    told = ran.json
    assert (ran.code, told["passed"], told["out"]) == (0, True, str(tmp_path / "a.onnx"))
    assert [one["gate"] for one in told["gates"]] == limits
    after, before = told["accuracy"]["after"], told["accuracy"]["before"]
    assert value(told, "drop <= 100") == pytest.approx(max(100 * (before[name] - after[name]) for name in before))
    assert value(told, "accuracy >= 1%") == value(told, "top1 >= 0.01") == after["top1"]
    assert value(told, "topk:k=2 >= 0.1") == after["topk:k=2"] >= after["top1"]
    assert value(told, "sqnr >= 1dB") == told["outputs"]["logits"]["sqnr_db"]
    assert value(told, "agreement >= 0.01") == told["outputs"]["logits"]["top1_agreement"]
    assert value(told, "size <= 1x") == told["kept"]["size_bytes"]
    assert value(told, "size <= 1GB") == told["after"]["size_bytes"]
    assert value(told, "params <= 1M") == told["after"]["params"]
    assert value(told, "latency <= 10s") == told["latency_ms"]["after"]
    assert value(told, "latency <= 100x") == pytest.approx(1 / told["latency_ms"]["speedup"])
    same = intaglio(
        "compare", DIGITS, tmp_path / "a.onnx", "--data", CALIB, "--runs", 5, "--gate", "sqnr >= 1", "--json"
    )
    with np.load(CALIB) as stored:
        whole = len(stored["image"])
    assert same.json["samples"] == whole


def test_what_misses_a_gate_is_kept_aside_and_what_was_there_stays(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.write_bytes(DIGITS.read_bytes())
    args = ("quantize", DIGITS, "-o", out, "--scheme", "w8", "--no-measure", "--gate")
    ran = intaglio(*args, "size <= 1KB", "--gate", "macs <= 1x", "--json")
    assert ran.code == 3
    assert (
        ran.json["error"]["what"] == f"1 of 2 gates missed: size <= 1KB (it is {ran.json['after']['size_bytes']:,} B)"
    )
    assert ran.json["out"] == str(tmp_path / "a.gate-failed.onnx")
    assert out.read_bytes() == DIGITS.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gate-failed.onnx", "a.onnx"]
    seen = intaglio(*args, "size <= 1KB", "--gate", "macs <= 1x")
    assert seen.code == 3
    assert "MISSED" in seen.out
    assert "passed" in seen.out
    assert f"kept aside as {tmp_path / 'a.gate-failed.onnx'}" in seen.err
    intaglio(*args, "size <= 1MB")
    assert out.read_bytes() == (tmp_path / "a.gate-failed.onnx").read_bytes() != DIGITS.read_bytes()


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("dorp <= 1", "did you mean drop?"),
        ("top2 >= 0.5", "did you mean top"),
        ("size 5", "a name, <= or >=, and a number"),
        ("size <= 500", "needs a unit, one of B, KB, MB"),
        ("size <= 5ms", "size takes no 'ms'"),
        ("latency <= 5", "needs a unit"),
        ("macs <= 0.5", "macs <= 0.5x"),
        ("accuracy >= 90", "needs a unit, one of %"),
        ("sqnr >= 1x", "sqnr takes no 'x'"),
        ("size <= -1KB", "gate 'size <= -1KB' means nothing: the limit must be above 0"),
        ("size >= 0x", "the limit must be above 0"),
        ("latency <= 0ms", "the limit must be above 0"),
        ("accuracy >= 0x", "the limit must be above 0"),
        ("accuracy >= 120%", "between 0 and 1"),
        ("agreement >= -0.1", "between 0 and 1"),
        ("params <= -1k", "must not be below 0"),
        ("drop <= nan", "a name, <= or >=, and a number"),
        ("topk:k=0 >= 1", "option k of metric topk cannot be '0'"),
        ("drop <= 1", "gate 'drop <= 1' needs labelled data"),
        ("top1 >= 0.9", "add --eval-data SOURCE"),
        ("agreement >= 0.9", "gate 'agreement >= 0.9' needs data"),
        ("latency <= 1x", "leave out --no-measure"),
    ],
)
def test_gates_that_cannot_be_meant_or_measured_end_before_the_work(
    intaglio: Command, tmp_path: Path, gate: str, told: str
) -> None:
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "a.onnx", "--macs", "0.5", "--no-measure", "--gate", gate)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert list(tmp_path.iterdir()) == []


def test_gates_of_two_models(intaglio: Command, classifier: Path, worse: Path, labelled: Path) -> None:
    args = ("compare", classifier, worse, "--data", labelled, "--runs", 5, "--json")
    told = intaglio(*args, "--gate", "accuracy >= 0.2", "--gate", "agreement >= 1", "--gate", "params <= 1x")
    assert told.code == 3
    assert [one["passed"] for one in told.json["gates"]] == [True, False, False]
    assert told.json["error"]["what"].startswith("2 of 3 gates missed: agreement >= 1 (it is 0.")
    assert told.json["accuracy"]["before"] == {"top1": 0.75}
    plain = intaglio("compare", classifier, worse, "--runs", 5, "--gate", "drop <= 1")
    assert (plain.code, plain.out) == (2, "")
    assert "needs labelled data" in plain.err


def test_a_large_loss_is_a_warning_where_no_gate_speaks_of_it(
    intaglio: Command, classifier: Path, worse: Path, labelled: Path
) -> None:
    args = ("compare", classifier, worse, "--data", labelled, "--runs", 5)
    assert "warning: top1 fell by" in intaglio(*args).out
    assert "warning: top1 fell by" in intaglio(*args, "--gate", "size <= 100x").out
    assert "top1 fell by" not in intaglio(*args, "--gate", "drop <= 90").out


def test_labels_that_nothing_can_be_scored_by_are_no_error_without_a_gate(
    intaglio: Command, classifier: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "odd.npz", x=np.eye(3, dtype=np.float32), labels=[7, 8, 9])
    args = ("compare", classifier, classifier, "--data", tmp_path / "odd.npz", "--runs", 5)
    ran = intaglio(*args, "--json")
    assert (ran.code, "accuracy" in ran.json) == (0, False)
    assert "accuracy is not measured: a label is outside the 3 classes" in "".join(ran.json["notes"])
    assert intaglio(*args, "--gate", "accuracy >= 0.5").code == 1
