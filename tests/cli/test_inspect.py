"""``intaglio inspect`` says what is in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command, write_model

BODY = "f = Flatten(x) y = Gemm <transB = 1> (f, w, b)"
WEIGHTS = f"float[2,12] w = {{{', '.join(['1'] * 24)}}}, float[2] b = {{0, 0}}"


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", "float[N,3,H,2] x", "float[N,2] y", BODY, WEIGHTS)


def test_cost_and_structure_are_those_of_the_model(intaglio: Command, linear: Path) -> None:
    found = intaglio("inspect", linear, "--shape", "x:1,3,2,2", "--json").json
    assert (found["opset"], found["nodes"], found["operators"]) == (17, 2, {"Flatten": 1, "Gemm": 1})
    assert (found["params"], found["macs"], found["weight_bytes"]) == (26, 24, 104)
    assert found["size_bytes"] == linear.stat().st_size
    assert [(i["name"], i["shape"]) for i in found["inputs"]] == [("x", [1, 3, 2, 2])]
    assert found["outputs"][0]["name"] == "y"


def test_open_dimensions_are_told_to_be_pinned(intaglio: Command, linear: Path) -> None:
    ran = intaglio("inspect", linear)
    assert ran.code == 0
    assert "count H as 1" in ran.out
    assert "count H as 1" not in intaglio("inspect", linear, "--shape", "x:1,3,2,2").out


def test_what_loading_changed_is_told(intaglio: Command, shared_data: Path) -> None:
    ran = intaglio("inspect", shared_data / "version-slim-320.onnx")
    assert "13" in ran.out
    assert intaglio("inspect", shared_data / "version-slim-320.onnx", "--json").json["notes"]


@pytest.mark.parametrize(
    ("name", "params", "mmacs"), [("resnet20-bn.onnx", 0.27, 40.8), ("mlperf-resnet8.onnx", 0.078, 12.5)]
)
def test_real_models_have_the_published_cost(
    intaglio: Command, shared_data: Path, name: str, params: float, mmacs: float
) -> None:
    found = intaglio("inspect", shared_data / name, "--json").json
    assert found["params"] / 1e6 == pytest.approx(params, rel=0.02)
    assert found["macs"] / 1e6 == pytest.approx(mmacs, rel=0.02)


def test_the_largest_layers_come_first_and_as_many_as_asked_for(intaglio: Command, shared_data: Path) -> None:
    lines = intaglio("inspect", shared_data / "resnet20.onnx", "--top", 4).out.splitlines()
    assert len(lines) - next(i for i, text in enumerate(lines) if "largest layers" in text) == 6
    assert "largest" not in intaglio("inspect", shared_data / "resnet20.onnx", "--top", 0).out
