"""Commands write the page that renders what they print as JSON, also when they fail."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from intaglio.pipeline.html import render

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = (EXAMPLES / name for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
DATA = ("--data", CALIB, "--eval-data", TEST, "--samples", "64")
COMMANDS = {
    "prune": ["--macs", "0.5", *DATA],
    "factorize": ["--macs", "0.7", "--no-measure", *DATA],
    "quantize": [*DATA, "--gate", "size <= 0.5x"],
    "binarize": DATA,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_renders_what_is_printed(intaglio: Command, tmp_path: Path, name: str) -> None:
    page = tmp_path / "report.html"
    ran = intaglio(name, DIGITS, "-o", tmp_path / "out.onnx", *COMMANDS[name], "--html", page, "--json")
    assert ran.code == 0
    assert page.read_text() == render(ran.json)
    assert "times smaller" in page.read_text()


def test_two_models_are_compared_on_a_page(intaglio: Command, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    gate = ("--gate", "agreement >= 0.5", "--gate", "size <= 0.5x")
    ran = intaglio("compare", DIGITS, DIGITS, "--data", TEST, "--runs", 5, *gate, "--html", page, "--json")
    assert ran.code == 3
    assert "1 of 2 gates missed" in page.read_text()
    assert all(one["bytes"]["before"] == one["bytes"]["after"] for one in ran.json["by_layer"])


def test_a_page_tells_what_went_wrong(intaglio: Command, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ran = intaglio("quantize", tmp_path / "<b>none.onnx", "-o", tmp_path / "out.onnx", "--html", page)
    assert ran.code == 1
    assert "&lt;b&gt;none.onnx does not exist</h1>" in page.read_text()


def test_a_page_that_cannot_be_written_is_refused_before_any_work(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = intaglio("quantize", DIGITS, "-o", out, "--html", tmp_path / "none" / "report.html")
    assert ran.code == 2
    assert "cannot write" in ran.err
    assert not out.exists()


def test_names_in_a_model_are_text_on_its_page(intaglio: Command, tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}</td><script>alert(1)</script>\x1b[2J\u202e"
    onnx.save(model, tmp_path / "<i>.onnx")
    page = tmp_path / "report.html"
    ran = intaglio(
        "quantize", tmp_path / "<i>.onnx", "-o", tmp_path / "o.onnx", "--scheme", "w8", "--no-measure", "--html", page
    )
    assert ran.code == 0
    text = page.read_text()
    assert r"0&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;\x1b[2J\u202e" in text
    assert [part for part in ("<script", "<i>", "\x1b", "\u202e") if part in text] == []
