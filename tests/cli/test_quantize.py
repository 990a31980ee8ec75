"""``intaglio quantize`` on bundled models and on what can go wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from .conftest import Command, bad_files, refused

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"
TRANSFORMER = EXAMPLES / "vit_digits.onnx"
QUIET = ("--no-measure", "--json")


@pytest.mark.parametrize(
    ("model", "scheme", "drop", "bytes_kept"),
    [
        (DIGITS, "int8", 0.005, 0.36),
        (DIGITS, "w4", 0.01, 0.25),
        (DIGITS, "w2", 0.04, 0.22),
        (DIGITS, "fp16", 0.002, 0.55),
        (TRANSFORMER, "int8", 0.005, 0.45),
        (TRANSFORMER, "dynamic", 0.005, 0.40),
        (TRANSFORMER, "w4", 0.02, 0.30),
        (TRANSFORMER, "bf16", 0.002, 0.60),
    ],
)
def test_accuracy_stays_and_the_file_shrinks(
    intaglio: Command, tmp_path: Path, model: Path, scheme: str, drop: float, bytes_kept: float
) -> None:
    out = tmp_path / "q.onnx"
    ran = intaglio("quantize", model, "-o", out, "--scheme", scheme, "--data", CALIB, "--eval-data", TEST, *QUIET)
    assert ran.code == 0, ran.err
    result = ran.json
    assert result["accuracy"]["after"]["top1"] >= result["accuracy"]["before"]["top1"] - drop
    assert result["kept"]["size_bytes"] < bytes_kept
    assert out.stat().st_size == pytest.approx(result["after"]["size_bytes"], rel=0.02, abs=1500)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    with np.load(TEST) as data:
        x = data[next(n for n in data.files if data[n].ndim > 1)][:4].astype(np.float32)
    assert np.isfinite(session.run(None, {session.get_inputs()[0].name: x})[0]).all()


def test_the_report_names_kernels_noise_and_what_stays_in_float(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("quantize", TRANSFORMER, "-o", tmp_path / "q.onnx", "--data", CALIB, "--eval-data", TEST)
    assert ran.code == 0
    assert "ONNX Runtime computes in integers: 12 MatMulIntegerToFloat, 1 QGemm, 1 QLinearConv" in ran.out
    assert "it has no integer kernel" in ran.out
    assert "output logits: signal to noise" in ran.out
    assert "latency" in ran.out
    assert "top1" in ran.out


def test_the_recipe_is_in_the_file(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    intaglio("quantize", DIGITS, "-o", out, "--scheme", "w8", "--no-measure")
    props = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert '"pass":"quantize"' in props["intaglio.recipe"]
    assert '"scheme":"w8"' in props["intaglio.recipe"]


def test_the_same_input_gives_the_same_bytes(intaglio: Command, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for out in files:
        assert intaglio("quantize", DIGITS, "-o", out, "--data", CALIB, "--samples", "100", "--no-measure").code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_int8_needs_no_data_where_batch_normalization_was_kept(intaglio: Command, tmp_path: Path) -> None:
    args = ("quantize", DIGITS, "-o", tmp_path / "q.onnx", "--eval-data", TEST, *QUIET)
    blind = intaglio(*args)
    assert blind.code == 2
    assert "range of the input" in blind.json["error"]["what"]
    name = onnx.load(DIGITS).graph.input[0].name
    told = intaglio(*args, "--input-range", f"{name}:0,1")
    assert told.code == 0, told.err
    accuracy = told.json["accuracy"]
    assert accuracy["after"]["top1"] >= accuracy["before"]["top1"] - 0.01


def test_nothing_is_made_up_where_data_is_missing(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("quantize", TRANSFORMER, "-o", tmp_path / "q.onnx", *QUIET)
    assert ran.code == 2
    assert "--data" in ran.json["error"]["fix"]
    assert not (tmp_path / "q.onnx").exists()


def test_an_average_of_bits(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio(
        "quantize", DIGITS, "-o", tmp_path / "q.onnx", "--bits", "3", "--data", CALIB, "--samples", "128", *QUIET
    )
    assert ran.code == 0, ran.err
    assert len({one["weights"] for one in ran.json["layers"]}) > 1


def test_a_drop_that_must_not_be_exceeded(intaglio: Command, tmp_path: Path) -> None:
    args = ("--scheme", "w2", "--method", "nearest", "--max-drop", "1", "--eval-data", TEST, *QUIET)
    ran = intaglio("quantize", DIGITS, "-o", tmp_path / "q.onnx", *args)
    assert ran.code == 0, ran.err
    accuracy = ran.json["accuracy"]
    assert accuracy["after"]["top1"] >= accuracy["before"]["top1"] - 0.01
    assert ran.json["higher_precision"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--scheme", "int9"), 2, "there is no scheme"),
        (("--scheme", "w1a1"), 2, "cannot be stored"),
        (("--scheme", "w4", "--bits", "3"), 2, "gives every layer 4 bits"),
        (("--bits", "3", "--size", "0.5", "--data", str(CALIB)), 2, "exclude each other"),
        (("--bits", "3"), 2, "calibration data is missing"),
        (("--size", "0.02", "--data", str(CALIB), "--samples", "64"), 1, "lowest reachable is 0."),
        (("--scheme", "w8", "--exclude", "no-such-node"), 2, "matches no"),
        (("--scheme", "w8", "--exclude", "re:.*"), 4, "nothing was quantized"),
        (("--scheme", "w8", "--max-drop", "1"), 2, "needs labelled data"),
        (("--scheme", "w8", "--smooth", "0.5"), 2, "needs calibration data"),
        (("--input-range", "x"), 2, "cannot read --input-range"),
        (("--data", "no-such.npz"), 1, "no data"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_written(
    intaglio: Command, tmp_path: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    refused(intaglio("quantize", DIGITS, "-o", tmp_path / "q.onnx", *args, *QUIET), tmp_path, code, said)


def test_a_broken_file_and_a_folder_that_cannot_be_written(intaglio: Command, tmp_path: Path) -> None:
    bad_files(intaglio, "quantize", DIGITS, tmp_path, "--scheme", "w8")


def test_quantized_models_can_be_looked_at_and_quantized_no_further(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    assert intaglio("quantize", DIGITS, "-o", out, "--data", CALIB, "--no-measure").code == 0
    assert intaglio("check", out).code == 0
    shown = intaglio("inspect", out, "--json").json
    assert shown["params"] == pytest.approx(intaglio("inspect", DIGITS, "--json").json["params"], rel=0.02)
    again = intaglio("quantize", out, "-o", tmp_path / "again.onnx", "--data", CALIB, *QUIET)
    assert again.code == 4, again.out


def test_pruned_and_factorized_models_can_be_quantized(intaglio: Command, tmp_path: Path) -> None:
    small, split, out = (tmp_path / name for name in ("small.onnx", "split.onnx", "q.onnx"))
    assert intaglio("prune", DIGITS, "-o", small, "--macs", "0.5", "--data", CALIB, "--no-measure").code == 0
    assert intaglio("factorize", DIGITS, "-o", split, "--macs", "0.7", "--data", CALIB, "--no-measure").code == 0
    for model in (small, split):
        ran = intaglio("quantize", model, "-o", out, "--data", CALIB, "--eval-data", TEST, *QUIET)
        assert ran.code == 0, ran.err
        accuracy = ran.json["accuracy"]
        assert accuracy["after"]["top1"] >= accuracy["before"]["top1"] - 0.01


def test_with_force_a_model_that_cannot_be_quantized_is_written_as_it_is(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    ran = intaglio("quantize", DIGITS, "-o", out, "--scheme", "w8", "--exclude", "re:.*", "--force", "--json")
    assert ran.code == 0
    assert ran.json["changed"] is False
    assert "nothing was quantized" in ran.json["notes"][-1]
    assert intaglio("compare", DIGITS, out, "--json").json["outputs"]
