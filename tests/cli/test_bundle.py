"""A folder that measures models elsewhere: run where nothing but NumPy and ONNX Runtime is, and read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.test_example import EXAMPLES

from .conftest import Command

DIGITS = EXAMPLES / "digits.onnx"


@pytest.fixture
def pair(intaglio: Command, tmp_path: Path) -> Path:
    """A second model; the bundle of both lies in ``bundle``."""
    small = tmp_path / "small.onnx"
    assert intaglio("quantize", DIGITS, "-o", small, "--scheme", "w4", "--method", "nearest", "--no-measure").code == 0
    ran = intaglio(
        "bench", DIGITS, small, "--bundle", tmp_path / "bundle", "--data", EXAMPLES / "digits_test.npz", "--json"
    )
    assert (ran.code, ran.json["models"]) == (0, [])
    assert sorted(ran.json["files"]) == sorted(one.name for one in (tmp_path / "bundle").iterdir())
    return small


def bare(folder: Path) -> Path:
    """A Python that finds NumPy and ONNX Runtime alone."""
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for module in (np, onnxruntime):
        home = Path(str(module.__file__)).parent
        for one in (home, home.with_name(f"{home.name}.libs")):
            if one.exists():
                (packages / one.name).symlink_to(one)
    return folder / "bin" / "python"


def test_a_bundle_runs_anywhere_and_tells_what_compare_reads(pair: Path, intaglio: Command, tmp_path: Path) -> None:
    python, folder = bare(tmp_path / "bare"), tmp_path / "bundle"
    alone = subprocess.run([python, "-c", "import onnx"], capture_output=True, env={})
    assert alone.returncode != 0
    ran = subprocess.run(
        [str(folder / "run.sh")],
        capture_output=True,
        text=True,
        env={"PYTHON": str(python), "PATH": os.environ["PATH"]},
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told == json.loads((folder / "device.json").read_text())
    assert told["correct"]
    assert [one["model"] for one in told["models"]] == ["digits.onnx", "small.onnx"]
    assert all(50 <= len(one["times_ms"]) <= 1000 for one in told["models"])
    compared = intaglio("compare", DIGITS, pair, "--measured", folder / "device.json", "--json").json
    for side, one in zip(("before", "after"), told["models"], strict=True):
        assert compared["latency_ms"][side] == pytest.approx(one["median_ms"], rel=1e-4)
    assert compared["latency_ms"]["machine"] == told["machine"]


def test_a_bundle_runs_on_another_processor(pair: Path, intaglio: Command, tmp_path: Path) -> None:
    """``INTAGLIO_AARCH64_PYTHON``: a program that runs Python for aarch64 with both packages, such as one of qemu-user."""
    python, folder = os.environ.get("INTAGLIO_AARCH64_PYTHON"), tmp_path / "bundle"
    if python is None:
        pytest.skip("INTAGLIO_AARCH64_PYTHON names no Python for aarch64")
    machine = subprocess.run(
        [python, "-c", "import platform; print(platform.machine())"], capture_output=True, text=True, check=True
    )
    assert machine.stdout == "aarch64\n"
    told = {"PYTHON": python, "PATH": os.environ["PATH"]}
    ran = subprocess.run([str(folder / "run.sh")], capture_output=True, text=True, env=told)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["correct"]
    assert intaglio("compare", DIGITS, pair, "--measured", folder / "device.json", "--json").code == 0


def test_wrong_results_and_other_models_are_told(pair: Path, intaglio: Command, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    values = dict(np.load(folder / "values1.npz"))
    np.savez(folder / "values1.npz", **{**values, "output0": values["output0"] + 5})
    found = tmp_path / "found.json"
    subprocess.run([sys.executable, str(folder / "measure.py"), str(found)], check=True)
    assert not json.loads(found.read_text())["correct"]
    compared = intaglio("compare", DIGITS, pair, "--measured", found, "--json").json
    assert any("output 'logits' of small.onnx is not what it is here" in note for note in compared["notes"])
    other = intaglio("compare", DIGITS, EXAMPLES / "vit_digits.onnx", "--measured", found)
    assert other.code == 2
    assert "no model in it has the same bytes" in " ".join(other.err.split())
    (tmp_path / "text.json").write_text("{}")
    broken = intaglio("compare", DIGITS, pair, "--measured", tmp_path / "text.json")
    assert (broken.code, "intaglio bench A B --bundle DIR" in " ".join(broken.err.split())) == (2, True)


def test_a_folder_that_holds_something_is_left_alone(intaglio: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = intaglio("bench", DIGITS, "--bundle", tmp_path)
    assert (ran.code, "is not empty" in ran.err) == (2, True)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
