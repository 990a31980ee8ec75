"""``intaglio prune`` with calibration data, with noise, and for a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from intaglio import load, save
from intaglio.graph.io.fix_dims import pin_shapes
from intaglio.measure.run.tensor_specs import input_specs, output_specs
from tests.conftest import hear_interrupts

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"
CIFAR = ("--preprocess", "cifar10", "--no-measure", "--json")


def test_data_makes_obspa_the_criterion(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    ran = intaglio("prune", DIGITS, "-o", out, "--macs", "0.25", "--data", CALIB, "--eval-data", TEST, "--json")
    assert ran.code == 0
    result = ran.json
    assert (result["criterion"], result["dialect"], result["samples"]) == ("obspa", "id", 512)
    assert result["kept"]["macs"] == pytest.approx(0.25, abs=0.01)
    accuracy = result["accuracy"]
    assert accuracy["after"]["top1"] > accuracy["before"]["top1"] - 0.02
    assert result["verified"]["passed"]


def test_evaluation_data_is_never_calibrated_on(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "a.onnx", "--macs", "0.5", "--eval-data", TEST, "--json")
    assert ran.json["criterion"] == "l2"
    assert "dialect" not in ran.json


def test_the_same_data_give_the_same_bytes(intaglio: Command, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for out in files:
        intaglio("prune", DIGITS, "-o", out, "--macs", "0.3", "--data", CALIB, "--samples", "128", "--no-measure")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_noise_keeps_more_than_weights_alone(intaglio: Command, tmp_path: Path) -> None:
    args = ("prune", DIGITS, "-o", tmp_path / "a.onnx", "--macs", "0.25", "--eval-data", TEST, "--json", "--no-measure")
    noise, weights = intaglio(*args, "--dialect", "noise").json, intaglio(*args).json
    assert noise["dialect"] == "noise"
    assert noise["accuracy"]["after"]["top1"] > weights["accuracy"]["after"]["top1"] + 0.05


@pytest.mark.parametrize("repair", ["refit", "absorb", "renormalize", "udfc"])
def test_every_repair_passes_the_proof(intaglio: Command, tmp_path: Path, repair: str) -> None:
    args = ("--macs", "0.5", "-c", "l2", "--repair", repair, "--data", CALIB, "--no-measure", "--json")
    result = intaglio("prune", DIGITS, "-o", tmp_path / "a.onnx", *args).json
    assert result["verified"]["passed"]
    assert result["repair"]


def test_a_time_is_a_target(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "a.onnx", "--latency", "0.6", "--data", CALIB, "--json", "--force")
    assert ran.code == 0
    found = ran.json["latency_target"]
    assert found["asked"] == 0.6
    assert found["after_ms"] > 0
    assert found["verdict"] in ("met", "missed", "slower")
    assert all(g["after"] % 4 == 0 or g["after"] == g["before"] for g in ran.json["groups"])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("-c", "obspa"), "calibration data is missing"),
        (("--dialect", "ood"), "calibration data is missing"),
        (("--dialect", "noise", "--data", CALIB), "runs without data"),
        (("--data", CALIB, "--steps", "2"), "takes no --steps"),
        (("--data", CALIB, "--solver", "none"), "no budget solver"),
        (("--repair", "none-such"), "no repair"),
        (("--samples", "5"), "says nothing without"),
    ],
)
def test_a_bad_request_is_exit_code_2(
    intaglio: Command, tmp_path: Path, args: tuple[str | Path, ...], text: str
) -> None:
    out = tmp_path / "a.onnx"
    ran = intaglio("prune", DIGITS, "-o", out, "--macs", "0.5", *args)
    assert ran.code == 2
    assert text in ran.err
    assert not out.exists()


def test_a_missing_folder_is_told_before_the_work(intaglio: Command, tmp_path: Path) -> None:
    began = time.perf_counter()
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "no" / "a.onnx", "--macs", "0.5", "--data", tmp_path / "none.npz")
    assert ran.code == 1
    assert "there is no folder" in ran.err
    assert time.perf_counter() - began < 60


ENDLESS = """
import pathlib
import numpy as np

def samples():
    pathlib.Path(__file__).with_name("ready").touch()
    while True:
        yield {"image": np.zeros((64, 1, 8, 8), dtype=np.float32)}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_interrupting_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "out").mkdir()
    command = [Path(sys.executable).parent / "intaglio", "prune", DIGITS, "-o", tmp_path / "out" / "a.onnx"]
    words = [*map(str, command), "--macs", "0.3", "--data", "endless:samples"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "out")}
    child = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, preexec_fn=hear_interrupts)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 130
    assert list((tmp_path / "out").iterdir()) == []


def test_a_real_network_keeps_its_accuracy_on_few_images(intaglio: Command, shared_data: Path, tmp_path: Path) -> None:
    data = ("--data", shared_data / "cifar10_train_calib2000.npz", "--samples", "192")
    test = ("--eval-data", shared_data / "cifar10_test_first2000.npz")
    model = shared_data / "resnet20.onnx"
    result = intaglio("prune", model, "-o", tmp_path / "a.onnx", "--macs", "0.75", *data, *test, *CIFAR).json
    assert result["mirrored"] is True
    assert result["accuracy"]["after"]["top1"] > result["accuracy"]["before"]["top1"] - 0.035


def test_a_real_network_keeps_its_accuracy_without_data(intaglio: Command, shared_data: Path, tmp_path: Path) -> None:
    args = ("--macs", "0.9", "--dialect", "noise", "--samples", "192")
    test = ("--eval-data", shared_data / "cifar10_test_first2000.npz")
    model = shared_data / "resnet20-bn.onnx"
    result = intaglio("prune", model, "-o", tmp_path / "a.onnx", *args, *test, *CIFAR).json
    assert result["accuracy"]["after"]["top1"] > result["accuracy"]["before"]["top1"] - 0.02


@pytest.mark.parametrize("command", [("prune", "--macs", 0.5), ("factorize", "--macs", 0.7), ("quantize",)])
def test_a_model_exported_for_one_sample_comes_out_like_any_other(
    intaglio: Command, tmp_path: Path, command: tuple[object, ...]
) -> None:
    free = load(DIGITS)
    single = tmp_path / "single.onnx"
    shape = (1, *(d for d in input_specs(free)[0].shape or () if isinstance(d, int)))
    pin_shapes(free, {input_specs(free)[0].name: shape})
    save(free, single)
    results = []
    for number, model in enumerate((DIGITS, single)):
        out = tmp_path / f"{number}.onnx"
        ran = intaglio(command[0], model, "-o", out, *command[1:], "--data", CALIB, "--no-measure", "--json")
        assert ran.code == 0, ran.err
        results.append(load(out))
    assert input_specs(results[1])[0].shape == shape
    assert (output_specs(results[1])[0].shape or ())[0] == 1
    assert [len(r.weights) for r in results] == [len(results[0].weights)] * 2
    for ours, theirs in zip(results[0].weights.values(), results[1].weights.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
