"""Reports beside what a command prints: written by the commands, also when they fail, and not when they are interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import hear_interrupts

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = (EXAMPLES / name for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
W8 = ("--scheme", "w8", "--no-measure")
COMMANDS = {
    "quantize": ("quantize", DIGITS, "-o", "a.onnx", *W8),
    "prune": ("prune", DIGITS, "-o", "a.onnx", "--macs", "0.5", "--no-measure"),
    "compare": ("compare", DIGITS, DIGITS, "--runs", "3"),
    "compress": ("compress", DIGITS, "-o", "out", "--recipe", "weights-4bit", "--no-measure"),
}
LOOKING = {
    "evaluate": (("evaluate", DIGITS, "--data", TEST, "--samples", "64"), "| `top5` | 100.00 % |"),
    "bench": (("bench", DIGITS, DIGITS, "--runs", "3"), f"| `{DIGITS}` |"),
    "bisect": (
        ("bisect", DIGITS, DIGITS, "--data", TEST, "--samples", "8"),
        "**the outputs are good: they lose no more",
    ),
}
FORMS = ("--junit", "r.xml", "--markdown", "r.md", "--html", "r.html", "--github")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def suite() -> ElementTree.Element:
    return ElementTree.parse("r.xml").getroot()


@pytest.mark.parametrize("name", list(COMMANDS))
@pytest.mark.parametrize(("gate", "code"), [("size <= 1x", 0), ("size <= 1B", 3)])
def test_every_form_is_written_whether_gates_pass_or_not(intaglio: Command, name: str, gate: str, code: int) -> None:
    ran = intaglio(*COMMANDS[name], "--gate", gate, "--gate", "macs <= 1x", *FORMS, "--json")
    assert ran.code == code, ran.out
    assert ("error" in ran.json) == (code == 3)
    assert (suite().get("tests"), suite().get("failures")) == ("2", str(int(code == 3)))
    text = Path("r.md").read_text()
    assert ("1 of 2 gates missed" if code else "all gates passed") in text
    assert f"intaglio {name}: `digits.onnx`" in text
    assert "<html" in Path("r.html").read_text()
    assert re.match(rf"::{'error' if code else 'notice'} title=gate ", ran.err)


@pytest.mark.parametrize("name", list(LOOKING))
def test_commands_that_write_no_model_have_the_same_forms(intaglio: Command, name: str, tmp_path: Path) -> None:
    command, told = LOOKING[name]
    ran = intaglio(*command, *FORMS)
    assert ran.code == 0, ran.err
    assert (suite().get("tests"), suite().get("failures"), suite().get("errors")) == ("1", "0", "0")
    assert told in Path("r.md").read_text()
    assert "<html" in Path("r.html").read_text()
    (tmp_path / "bad.onnx").write_bytes(DIGITS.read_bytes()[:3000])
    assert intaglio(*("bad.onnx" if word is DIGITS else word for word in command), *FORMS).code == 1
    assert suite().get("errors") == "1"
    assert "failed: " in Path("r.md").read_text()


@pytest.mark.parametrize("name", ["quantize", "compress"])
def test_what_fails_on_the_way_is_told_in_every_form(intaglio: Command, name: str, tmp_path: Path) -> None:
    command, _, *rest = COMMANDS[name]
    (tmp_path / "bad.onnx").write_bytes(DIGITS.read_bytes()[:3000])
    ran = intaglio(command, "bad.onnx", *rest, *FORMS)
    assert ran.code == 1
    assert suite().get("errors") == "1"
    assert "failed: " in Path("r.md").read_text()
    assert "::error title=" in ran.err


@pytest.mark.parametrize("option", ["--junit", "--markdown", "--html"])
def test_a_report_that_cannot_be_written_ends_before_the_work(intaglio: Command, option: str, tmp_path: Path) -> None:
    ran = intaglio(*COMMANDS["quantize"], option, "nowhere/r.txt")
    assert (ran.code, "cannot write nowhere" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_github_is_told_by_itself_where_it_runs(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, name)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = intaglio(*COMMANDS["quantize"], "--gate", "size <= 1x", "--json")
    assert json.loads(ran.out)["passed"] is True
    assert ran.err.startswith("::notice title=gate passed::")
    outputs = dict(line.split("=", 1) for line in Path("GITHUB_OUTPUT").read_text().splitlines())
    assert outputs == {"passed": "true", "out": "a.onnx", "size_bytes": str(ran.json["after"]["size_bytes"])}
    assert "all gates passed" in Path("GITHUB_STEP_SUMMARY").read_text()
    assert "::" not in intaglio(*COMMANDS["quantize"], "--no-github").err


def test_names_of_files_steer_nothing(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    odd = "a|`b`<i>&\x1b[1m%0A::error::x.onnx"
    shutil.copy(DIGITS, odd)
    ran = intaglio("quantize", odd, "-o", f"new {odd}", *W8, *FORMS, "--gate", "size <= 1B")
    assert ran.code == 3
    assert not re.search(r"^::error::", ran.err + ran.out, re.MULTILINE)
    assert "\x1b" not in ran.err + ran.out + Path("r.md").read_text() + Path("r.xml").read_text()
    assert suite()[0][0].get("classname") == odd.replace("\x1b", "\\x1b")


def test_no_name_starts_a_command_to_the_runner(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    model = write_model(
        Path("m.onnx"), "float[N,3] x", "float[N,3] y", "y = MatMul(x, w)", "float[3,3] w = {1,0,0, 0,1,0, 0,0,1}"
    )
    shutil.move(model, "::add-mask::x.onnx")
    ran = intaglio("groups", "::add-mask::x.onnx", "--members")
    assert ran.code == 0
    assert not re.search(r"^\s*::", ran.out, re.MULTILINE)


def test_an_interrupt_leaves_neither_a_model_nor_a_report(tmp_path: Path) -> None:
    code = "import sys; from intaglio.cli.main import main; sys.exit(main())"
    words = ["prune", DIGITS, "-o", "a.onnx", "--max-drop", "1", "--eval-data", TEST, "--data", CALIB, *FORMS]
    ran = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words), "--gate", "size <= 1B"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=hear_interrupts,
    )
    time.sleep(2.5)
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=60)
    assert (ran.returncode, err) == (130, b"error: interrupted\n")
    assert list(tmp_path.iterdir()) == []
