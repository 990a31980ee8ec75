"""``compress`` writes its result for other runtimes as well, and tells what came of that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from intaglio.exporters.onnx import SessionRunner
from intaglio.exporters.ort import Ort

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"
W8 = "passes:\n- pass: quantize\n  scheme: w8\n"
W4 = "passes:\n- pass: quantize\n  scheme: w4\n  target: generic\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compress(intaglio: Command, recipe: str, *given: object) -> Any:
    Path("r.yaml").write_text(recipe)
    return intaglio("compress", DIGITS, "-o", "out", "--recipe", "r.yaml", "--no-measure", *given)


def report() -> Any:
    return json.loads(Path("out/report.json").read_text())


def test_exports_stand_beside_the_model_with_what_their_runtime_says(intaglio: Command) -> None:
    ran = compress(intaglio, W8 + 'exports: [ort, "onnx:io=float16"]\n', "--eval-data", TEST, "--samples", "64")
    assert ran.code == 0, ran.err
    first, second = report()["exports"]
    assert (first["target"], first["out"], first["passed"]) == ("ort", "out/model.ort", True)
    assert first["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert (first["samples"], first["size_bytes"] > 10_000) == (64, True)
    assert second["out"] == "out/model_2.onnx", "model.onnx is the result itself"
    assert report()["passed"]
    for text in (ran.out, Path("out/report.md").read_text(), Path("out/report.html").read_text()):
        assert "model.ort" in text.replace("\\", "")
    with np.load(TEST) as stored:
        feed = {"image": stored["image"][:1]}
    onnx, ort = (onnxruntime.InferenceSession(f"out/model.{kind}").run(None, feed)[0] for kind in ("onnx", "ort"))
    np.testing.assert_allclose(onnx, ort, rtol=1e-4, atol=1e-5)
    kept = Path("out/recipe.yaml").read_text()
    assert intaglio("compress", "-o", "again", "--recipe", "out/recipe.yaml", "--no-measure").code == 0
    assert "- ort\n" in kept
    assert Path("again/model.ort").exists()


def test_what_was_exported_before_goes_when_it_is_no_longer_of_the_result(intaglio: Command) -> None:
    assert compress(intaglio, W8, "--export", "ort").code == 0
    written = {"model.ort", "model.required_operators.config"}
    assert written == set(report()["exports"][0]["files"]) <= set(os.listdir("out"))
    assert compress(intaglio, W8, "--gate", "size <= 1B", "--export", "ort").code == 3
    assert not written & set(os.listdir("out"))
    assert compress(intaglio, W8, "--export", "ort").code == 0
    Path("out/model_openvino").mkdir()
    assert compress(intaglio, W8).code == 0
    assert not written & set(os.listdir("out"))
    assert "exports" not in report()
    assert Path("out/model_openvino").is_dir(), "no such run wrote it"


def test_what_cannot_be_exported_is_an_error_and_the_model_stays(intaglio: Command) -> None:
    ran = compress(intaglio, W4, "--export", "ort", "--junit", "r.xml")
    assert ran.code == 1
    assert "ort cannot hold integers of 2 or 4 bits" in ran.err
    assert Path("out/model.onnx").exists()
    assert not Path("out/model.ort").exists()
    assert (report()["passed"], report()["exports"][0]["passed"]) == (False, False)
    assert "ort cannot hold" in Path("out/report.md").read_text()
    assert 'errors="1"' in Path("r.xml").read_text()


def test_an_export_that_is_not_close_is_a_missed_gate(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    right = SessionRunner.run

    def wrong(self: SessionRunner, inputs: Any) -> Any:
        return {name: value + 1 for name, value in right(self, inputs).items()}

    monkeypatch.setattr(SessionRunner, "run", wrong)
    ran = compress(intaglio, W8, "--export", "ort", "--json")
    assert (ran.code, ran.json["passed"]) == (3, False)
    assert ran.json["error"]["what"].startswith("export ort: 1 of 1 gates missed: sqnr >= 60dB (it is ")
    assert ran.json["error"]["why"] == "it is kept aside as out/model.gate-failed.ort"
    assert Path("out/model.gate-failed.ort").exists()
    assert not Path("out/model.ort").exists()
    assert not report()["passed"]


def test_what_an_exporter_needs_is_told_before_any_work(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ort, "imports", ("no_such_module",))
    for more in ((), ("--dry-run",)):
        ran = compress(intaglio, W8, "--export", "ort", *more)
        assert ran.code == 2
        assert "exporter ort needs no_such_module, which is not installed" in ran.err
        assert not Path("out").exists()
