"""What ``--memory`` limits, and that results do not change with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intaglio import save
from intaglio.pipeline.units import parse_size
from tests.passes.parsed import parsed

from .conftest import Command

LAYERS = 12


def peak_bytes(*args: str) -> int:
    """Of a process of its own. A small one starts it: what a fork of this one has counts as used, too."""
    command = [str(Path(sys.executable).parent / "intaglio"), *args]
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    told = "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {told}", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of convolutions of small weights and large activations."""
    text = "".join(f"t{k} = Conv({f'r{k - 1}' if k else 'x'}, w{k}) r{k} = Relu(t{k}) " for k in range(LAYERS))
    weights = ", ".join(f"float[8, {8 if k else 3}, 1, 1] w{k}" for k in range(LAYERS))
    text += f"p = GlobalAveragePool(r{LAYERS - 1}) y = Flatten(p)"
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    save(parsed("float[1, 3, 384, 384] x", "float[1, 8] y", weights, text), path)
    return path


def test_a_proof_stays_within_the_memory_that_it_was_given(model: Path, tmp_path: Path) -> None:
    """All activations of both models together are 170 MB."""
    request = ["prune", str(model), "--channels", "0.5", "--no-measure"]
    little = min(peak_bytes(*request, "-o", str(tmp_path / f"{k}.onnx"), "--memory", "32MB") for k in "acd")
    much = peak_bytes(*request, "-o", str(tmp_path / "b.onnx"), "--memory", "4GB")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert little < much - (80 << 20)


@pytest.mark.parametrize("more", [(), ("--smooth", "0.5")])
def test_calibration_stays_within_the_memory_that_it_was_given(
    model: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((2, 3, 384, 384)).astype(np.float32))
    request = [
        "quantize",
        str(model),
        "--scheme",
        "int8",
        "--no-measure",
        "--force",
        "--data",
        str(tmp_path / "data.npz"),
        *more,
    ]
    little = min(peak_bytes(*request, "-o", str(tmp_path / f"{k}.onnx"), "--memory", "32MB") for k in "acd")
    much = peak_bytes(*request, "-o", str(tmp_path / "b.onnx"), "--memory", "4GB")
    assert little < much - (80 << 20)


@pytest.mark.parametrize("size", ["much", "1MB", "-5MB", "0", "12", "2%", "1e30GB", "nanMB"])
def test_a_size_that_is_none_is_told(intaglio: Command, model: Path, tmp_path: Path, size: str) -> None:
    done = intaglio("prune", str(model), "-o", str(tmp_path / "o.onnx"), "--channels", "0.5", "--memory", size)
    assert done.code == 2
    assert "--memory" in done.err
    assert "256MB" in done.err


@pytest.mark.parametrize(
    ("text", "size"), [("256MB", 256 << 20), ("1.5 GiB", 3 << 29), ("16m", 16 << 20), ("33554432", 32 << 20)]
)
def test_sizes_are_numbers_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
