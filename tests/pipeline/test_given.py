"""Before is the file as it was given, and what reading it gained is told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from intaglio import Quantize, load, run
from intaglio.cli.main import main


def old_style(path: Path) -> Path:
    """A file that names its weights as inputs and drops nothing."""
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x, float[64,64] w) => (float[N,64] y) {
            i = Identity (x)
            d = Dropout (i)
            y = MatMul (d, w)
        }"""
    )
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    helper.set_model_props(proto, {"about": "long words " * 20})
    onnx.save(proto, path)
    return path


def test_before_is_the_file_as_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = old_style(tmp_path / "model.onnx"), tmp_path / "out.onnx"
    assert main(["quantize", str(path), "-o", str(out), "--scheme", "w8", "--force"]) == 0
    assert "of this without loss, by reading it alone: " in capsys.readouterr().out
    assert main(["quantize", str(path), "-o", str(out), "--scheme", "w8", "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    size = path.stat().st_size
    assert told["before"]["size_bytes"] == size
    assert told["kept"]["size_bytes"] == pytest.approx(told["after"]["size_bytes"] / size)
    found = told["lossless"]
    assert found["size_bytes"]["before"] == size > found["size_bytes"]["after"]
    assert found["nodes"] == {"before": 3, "after": 1}
    assert found["latency_ms"]["before"] == told["latency_ms"]["before"]
    assert any("Identity" in note for note in found["notes"])


def test_a_model_that_was_changed_in_memory_is_its_own_before(tmp_path: Path) -> None:
    read = load(old_style(tmp_path / "model.onnx"))
    told = run(read, Quantize(scheme="w8"), measure=False).as_dict()
    assert told["lossless"]["nodes"] == {"before": 3, "after": 1}
    again = run(read.copy(), Quantize(scheme="w8"), measure=False).as_dict()
    assert "lossless" not in again
    assert again["before"]["size_bytes"] < told["before"]["size_bytes"]
