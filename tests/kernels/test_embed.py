"""The program of examples/embed runs a packed model without Python, and gives what Python gives."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from intaglio.graph.io.save import save
from intaglio.kernels.register import ops_library
from intaglio.measure.run.session import open_session, run

from .packed import two_layers
from .signs import needs_library

SOURCE = Path(__file__).resolve().parent.parent.parent / "examples" / "embed" / "main.c"


@pytest.fixture(scope="module")
def runtime() -> Path:
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("this package of ONNX Runtime holds no library of its own")
    return found[0]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("embed") / "embed"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run([compiler, *flags, str(SOURCE), "-ldl", "-o", str(made)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@needs_library
@pytest.mark.parametrize("native", [True, False])
def test_the_program_gives_what_python_gives(program: Path, runtime: Path, native: bool, tmp_path: Path) -> None:
    model, x = two_layers(), np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    save(model, tmp_path / "model.onnx")
    x.tofile(tmp_path / "x.f32")
    operators = str(ops_library()) if native else "-"
    command = [program, runtime, operators, tmp_path / "model.onnx", tmp_path / "x.f32", *x.shape]
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    wanted = run(open_session(model, native=native), {"x": x})["y"]
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32).reshape(wanted.shape), wanted)


def test_the_program_says_what_is_wrong(program: Path, runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    np.zeros(2, np.float32).tofile(tmp_path / "x.f32")
    for model, operators, shape, message in (
        ("bad.onnx", "-", "2", "opening the model"),
        ("bad.onnx", str(tmp_path / "x.f32"), "2", "registering the operators"),
        ("bad.onnx", "-", "3", "does not hold exactly the numbers of the shape"),
    ):
        command = [program, runtime, operators, tmp_path / model, tmp_path / "x.f32", shape]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr
