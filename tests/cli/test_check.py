"""``intaglio check`` says whether a model loads, runs and gives what its data expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.graph.io.save import save
from intaglio.kernels import loader

from ..kernels.packed import two_layers
from .conftest import Command, write_model


@pytest.mark.parametrize(
    "name",
    [
        "resnet20.onnx",
        "resnet20-bn.onnx",
        "mlperf-resnet8.onnx",
        "kws_dscnn_from_drq_tflite.onnx",
        "version-slim-320.onnx",
    ],
)
def test_real_models_pass(intaglio: Command, shared_data: Path, name: str) -> None:
    ran = intaglio("check", shared_data / name, "--json")
    assert ran.code == 0
    assert ran.json["ok"]
    assert all(o["not_finite"] == 0 for o in ran.json["outputs"])


def test_models_of_the_onnx_package_give_what_their_data_expects(intaglio: Command, tmp_path: Path) -> None:
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "simple" / "test_single_relu_model"
    ran = intaglio("check", light / "model.onnx", "--data", light, "--json")
    assert (ran.code, ran.json["compared"]) == (0, [onnx.load(light / "model.onnx").graph.output[0].name])


def test_an_output_that_is_not_as_expected_ends_with_1(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((1, 3), np.float32), y=np.full((1, 3), 2.5, np.float32))
    ran = intaglio("check", classifier, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "y differs by up to 0.5" in ran.err
    assert intaglio("check", classifier, "--data", tmp_path / "d.npz", "--atol", 0.6).code == 0


def test_a_model_that_fails_inside_names_the_operator(intaglio: Command, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", "float[2,3] x", "float y", "y = Reshape(x, s)", "int64[1] s = {5}")
    ran = intaglio("check", model)
    assert ran.code == 1
    assert "Reshape" in ran.err


def test_operators_on_bits_are_told_to_run_natively_or_by_their_definitions(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "packed.onnx"
    save(two_layers(), path)
    if loader.available():
        assert intaglio("check", path, "--json").json["native"] == loader.isa()
        assert f"operators on bits: native, {loader.isa()}" in intaglio("check", path).out
        assert f"operators on bits: native, {loader.isa()}" in intaglio("bench", path, "--runs", "2").out
    monkeypatch.setattr(loader, "_load", lambda: "the kernels were not built: install a C compiler")
    ran = intaglio("check", path)
    assert ran.code == 0
    assert "native" not in ran.out
    assert "run by their definitions; the kernels were not built: install a C compiler" in ran.err
    assert intaglio("check", path, "--json").json["native"] is None
