"""What is written, run where it may be run: the reference implementation, other runtimes, old releases of ONNX Runtime.

Old releases are looked for in the folders that INTAGLIO_OLD_RUNTIMES names, as pip installs with --target.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

from intaglio.graph.io.load import load
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.quantize import Quantize
from intaglio.pipeline.run import run as carry_out
from tests.test_example import EXAMPLES

STANDARD: dict[str, tuple[str, Pass]] = {
    **{f"w{bits}": ("vit_digits", Quantize(scheme=f"w{bits}", method="nearest")) for bits in (2, 3, 4, 8)},
    "conv w3": ("digits", Quantize(scheme="w3", method="nearest")),
    "bits": ("vit_digits", Binarize(form="standard")),
    "dense bits": ("vit_digits", Binarize(form="dense")),
}
"""Of standard operators alone."""
IN_OLD: dict[str, tuple[str, Pass]] = {
    **STANDARD,
    "w4 generic": ("vit_digits", Quantize(scheme="w4", method="nearest", target="generic")),
    "w3 generic": ("vit_digits", Quantize(scheme="w3", method="nearest", target="generic")),
    "int8": ("digits", Quantize(input_ranges=(("image", 0.0, 1.0),))),
    "dynamic": ("vit_digits", Quantize(scheme="dynamic")),
    "fp16": ("digits", Quantize(scheme="fp16")),
    "packed bits": ("vit_digits", Binarize()),
    "binary network": ("binary_digits", Binarize()),
}
OLD = [Path(folder) for folder in os.environ.get("INTAGLIO_OLD_RUNTIMES", "").split(os.pathsep) if folder]


def images() -> np.ndarray:
    with np.load(EXAMPLES / "digits_test.npz") as data:
        return data["image"][:8].astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, np.ndarray]]:
    """Files by the names of what is in them, each made once, and what this release of ONNX Runtime computes."""
    folder, known = tmp_path_factory.mktemp("made"), dict[str, tuple[Path, np.ndarray]]()

    def make(name: str) -> tuple[Path, np.ndarray]:
        if name not in known:
            model, one = IN_OLD[name]
            path = folder / f"{name}.onnx"
            carry_out(EXAMPLES / f"{model}.onnx", one, out=path, measure=False, force=True)
            outputs = run(open_session(load(path)), {"image": images()})
            known[name] = path, next(iter(outputs.values()))
        return known[name]

    return make


Made = Callable[[str], tuple[Path, np.ndarray]]


@pytest.mark.parametrize("name", STANDARD)
def test_standard_forms_mean_the_same_in_the_reference_implementation(name: str, made: Made) -> None:
    path, expected = made(name)
    (found,) = onnx.reference.ReferenceEvaluator(onnx.load(path)).run(None, {"image": images()})
    np.testing.assert_allclose(np.asarray(found), expected, atol=2e-4)


@pytest.mark.parametrize("name", STANDARD)
def test_standard_forms_mean_the_same_in_openvino(name: str, made: Made) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: nothing is run in it")
    path, expected = made(name)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}  # else it rounds activations
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    np.testing.assert_allclose(np.asarray(compiled({"image": images()})[0]), expected, atol=2e-4)


@pytest.mark.parametrize("name", STANDARD)
def test_standard_forms_mean_the_same_in_opencv(name: str, made: Made) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: nothing is run in it")
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV before 5 does not compute what constants alone make")
    path, expected = made(name)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(images(), "image")
    np.testing.assert_allclose(np.asarray(net.forward()), expected, atol=2e-4)


_CHILD = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], session.run(None, {"image": np.load(sys.argv[2])})[0])
"""


@pytest.mark.skipif(not OLD, reason="INTAGLIO_OLD_RUNTIMES names no folders: no old release of ONNX Runtime is run")
@pytest.mark.parametrize("name", IN_OLD)
def test_every_artifact_loads_in_old_releases(name: str, made: Made, tmp_path: Path) -> None:
    path, expected = made(name)
    np.save(tmp_path / "x.npy", images())
    for folder in OLD:
        told = [sys.executable, "-c", _CHILD, str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
        child = subprocess.run(told, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
        assert child.returncode == 0, f"{folder.name}: {child.stderr[-500:]}"
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=0.02 * np.abs(expected).max())
