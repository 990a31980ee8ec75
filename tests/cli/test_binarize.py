"""``intaglio binarize`` on bundled and real models, and on what can go wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from .conftest import Command, bad_files, refused, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"
TRANSFORMER = EXAMPLES / "vit_digits.onnx"
QUIET = ("--no-measure", "--json")


@pytest.mark.parametrize(
    ("model", "scheme", "drop", "bytes_kept", "bits"),
    [
        (DIGITS, "planes", 0.03, 0.35, 3.0),
        (TRANSFORMER, "planes", 0.01, 0.20, 3.0),
        (TRANSFORMER, "xnor", 0.03, 0.15, 1.5),
        (TRANSFORMER, "twn", 0.01, 0.20, 3.0),
        (TRANSFORMER, "pb", 0.03, 0.31, 3.7),
    ],
)
def test_accuracy_stays_and_the_file_shrinks(
    intaglio: Command, tmp_path: Path, model: Path, scheme: str, drop: float, bytes_kept: float, bits: float
) -> None:
    out = tmp_path / "b.onnx"
    ran = intaglio("binarize", model, "-o", out, "--scheme", scheme, "--data", CALIB, "--eval-data", TEST, *QUIET)
    assert ran.code == 0, ran.err
    result = ran.json
    assert result["accuracy"]["after"]["top1"] >= result["accuracy"]["before"]["top1"] - drop
    assert result["kept"]["size_bytes"] < bytes_kept
    assert 1 < result["bits"] <= bits
    assert out.stat().st_size == pytest.approx(result["after"]["size_bytes"], rel=0.02, abs=1500)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    with np.load(TEST) as data:
        x = data[next(n for n in data.files if data[n].ndim > 1)][:4].astype(np.float32)
    assert np.isfinite(session.run(None, {session.get_inputs()[0].name: x})[0]).all()


def test_planes_are_what_a_float_model_gets_and_the_report_says_what_became_of_it(
    intaglio: Command, tmp_path: Path
) -> None:
    ran = intaglio("binarize", TRANSFORMER, "-o", tmp_path / "b.onnx", "--data", CALIB, "--eval-data", TEST)
    assert ran.code == 0
    for said in (
        "/blocks.0/query/MatMul",
        "planes: 2.44 bits for each weight of these layers, scales and maps included",
        "left in float: /patches/Conv: the first layer, which sees the input",
        "output logits: signal to noise",
        "latency",
        "top1",
        "BiBench",
    ):
        assert said in ran.out
    props = {p.key: p.value for p in onnx.load(tmp_path / "b.onnx").metadata_props}
    assert '"pass":"binarize"' in props["intaglio.recipe"]


def test_every_form_gives_the_same_accuracy(intaglio: Command, tmp_path: Path) -> None:
    found = {}
    for form in ("packed", "standard", "dense"):
        out = tmp_path / f"{form}.onnx"
        ran = intaglio("binarize", TRANSFORMER, "-o", out, "--form", form, "--eval-data", TEST, *QUIET)
        found[form] = ran.json["accuracy"]["after"]["top1"], out.stat().st_size
        domains = {node.domain for node in onnx.load(out).graph.node}
        assert domains == ({"", "intaglio"} if form == "packed" else {""})
    assert len({accuracy for accuracy, _ in found.values()}) == 1
    assert found["packed"][1] < found["standard"][1] < 0.3 * found["dense"][1]


def test_the_same_input_gives_the_same_bytes(intaglio: Command, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for out in files:
        assert intaglio("binarize", DIGITS, "-o", out, "--data", CALIB, "--samples", "100", "--no-measure").code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_model_that_is_ruined_is_told_to_be(intaglio: Command, tmp_path: Path) -> None:
    args = ("--scheme", "xnor", "--edges", "--no-measure")
    seen = intaglio("binarize", TRANSFORMER, "-o", tmp_path / "b.onnx", *args, "--eval-data", TEST)
    assert seen.code == 0
    assert re.search(r"^warning: top1 fell by \d\d.* points, from 98.7 %", seen.err, re.MULTILINE)
    assert "quantize it to 4 bits" in seen.err


def test_activations_of_one_bit_are_refused_unless_forced(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    ran = intaglio("binarize", TRANSFORMER, "-o", out, "--scheme", "w1a1", *QUIET)
    assert ran.code == 1
    error = ran.json["error"]
    assert "not trained for activations of one bit" in error["what"]
    assert "--force" in error["fix"]
    assert not out.exists()
    forced = intaglio(
        "binarize", TRANSFORMER, "-o", out, "--scheme", "w1a1", "--force", "--data", CALIB, "--eval-data", TEST, *QUIET
    )
    assert forced.code == 0
    assert any("top1 fell by" in told for told in forced.json["warnings"])
    assert out.exists()


def test_a_drop_that_must_not_be_exceeded(intaglio: Command, tmp_path: Path) -> None:
    args = ("--scheme", "xnor", "--max-drop", "1", "--eval-data", TEST, *QUIET)
    ran = intaglio("binarize", TRANSFORMER, "-o", tmp_path / "b.onnx", *args)
    assert ran.code == 0, ran.err
    accuracy = ran.json["accuracy"]
    assert accuracy["after"]["top1"] >= accuracy["before"]["top1"] - 0.01
    assert ran.json["higher_precision"]
    assert ran.json["layers"]


def test_a_limit_of_bytes(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "b.onnx"
    ran = intaglio("binarize", TRANSFORMER, "-o", out, "--size", "0.5", "--data", CALIB, "--samples", "128", *QUIET)
    assert ran.code == 0, ran.err
    assert out.stat().st_size <= 0.5 * TRANSFORMER.stat().st_size + 1000
    assert 0 < len(ran.json["layers"]) < 12


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--scheme", "binary"), 2, "there is no binarization"),
        (("--form", "zip"), 2, "--form cannot be 'zip'"),
        (("--scheme", "onebit", "--block", "32"), 2, "one scale for each row and column"),
        (("--size", "0.5"), 2, "takes inputs to measure"),
        (("--size", "0"), 2, "--size cannot be 0"),
        (("--size", "0.02", "--data", str(CALIB), "--samples", "64"), 1, "lowest reachable is 0."),
        (("--exclude", "no-such-node"), 2, "matches no"),
        (("--include", "re:("), 2, "no regular expression"),
        (("--exclude", "re:.*"), 4, "nothing was binarized"),
        (("--max-drop", "1"), 2, "needs labelled data"),
        (("--samples", "5"), 2, "--samples says nothing"),
        (("--data", "no-such.npz"), 1, "no data"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_written(
    intaglio: Command, tmp_path: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    refused(intaglio("binarize", DIGITS, "-o", tmp_path / "b.onnx", *args, *QUIET), tmp_path, code, said)


def test_a_broken_file_and_a_folder_that_cannot_be_written(intaglio: Command, tmp_path: Path) -> None:
    bad_files(intaglio, "binarize", DIGITS, tmp_path)


def test_with_force_a_model_without_layers_is_written_as_it_is(intaglio: Command, tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare.onnx", "float[N,3] x", "float[N,3] y", "y = Mul(x, two)", "float two = {2.0}")
    out = tmp_path / "b.onnx"
    assert intaglio("binarize", bare, "-o", out, *QUIET).code == 4
    ran = intaglio("binarize", bare, "-o", out, "--force", *QUIET)
    assert ran.code == 0
    assert ran.json["changed"] is False
    assert out.exists()


def test_binarized_models_go_through_every_other_command(intaglio: Command, tmp_path: Path) -> None:
    for scheme in ("planes", "billm"):
        out = tmp_path / f"{scheme}.onnx"
        assert intaglio("binarize", DIGITS, "-o", out, "-s", scheme, "--data", CALIB, "--no-measure").code == 0
        assert intaglio("check", out).code == 0
        assert intaglio("inspect", out).code == 0
        assert intaglio("compare", DIGITS, out, "--data", TEST, "--runs", "3").code == 0
        assert intaglio("evaluate", out, "--data", TEST).code == 0
        again = intaglio("binarize", out, "-o", tmp_path / "twice.onnx", "--edges", *QUIET)
        assert again.code == 4
        assert "quantized or binarized before" in again.json["error"]["why"]
        pruned = intaglio("prune", out, "-o", tmp_path / "p.onnx", "--params", "0.95", *QUIET)
        assert pruned.code in (0, 1), pruned.err  # what is frozen may leave too little to remove
        small = intaglio("quantize", out, "-o", tmp_path / "q.onnx", "--scheme", "w8", *QUIET)
        assert small.code in (0, 4), small.err


def test_a_real_network_in_one_and_in_two_bits(intaglio: Command, tmp_path: Path, shared_data: Path) -> None:
    """256 images are few: more do better, as the documents show."""
    images = ("--data", shared_data / "cifar10_train_calib2000.npz", "--samples", "256")
    labels = ("--eval-data", shared_data / "cifar10_test_first2000.npz")
    prepared = ("--preprocess", "layout=nchw")
    for scheme, bits, least, kept in (("planes", 2.3, 0.78, 0.13), ("xnor", 1.2, 0.60, 0.10)):
        out = tmp_path / f"{scheme}.onnx"
        model = shared_data / "mlperf-resnet8.onnx"
        ran = intaglio("binarize", model, "-o", out, "-s", scheme, *images, *labels, *prepared, *QUIET)
        assert ran.code == 0, ran.err
        assert ran.json["bits"] < bits
        assert ran.json["accuracy"]["after"]["top1"] > least
        assert ran.json["kept"]["size_bytes"] < kept
