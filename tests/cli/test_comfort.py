"""What new users try first: names that are nearly right, files that would be lost, options that every tool has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pytest

from intaglio.cli.console import begin, mode, progress
from intaglio.cli.main import main

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.onnx"
W4 = ("--scheme", "w4", "--no-measure")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(copy(DIGITS, tmp_path / "digits.onnx"))


def test_the_model_that_is_read_is_replaced_with_force_only(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    assert main(["quantize", str(model), "-o", str(model), *W4]) == 2
    assert "is the model that was read" in capsys.readouterr().err
    assert model.read_bytes() == before
    assert main(["quantize", str(model), "-o", str(model), *W4, "--force"]) == 0
    assert model.stat().st_size < len(before)


def test_a_name_of_another_format_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(model), "-o", str(model.with_name("a.tflite")), *W4]) == 2
    assert "call it a.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("int4", "w4"), ("INT8", "w8 or int8"), ("uint3", "w3"), ("q4", "w4")])
def test_names_of_integers_suggest_the_scheme(
    model: Path, word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(model), "-o", str(model.with_name("a.onnx")), "--scheme", word]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_quantized_model_is_called_that(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once, twice = (str(model.with_name(name)) for name in ("once.onnx", "twice.onnx"))
    assert main(["quantize", str(model), "-o", once, *W4]) == 0
    assert main(["quantize", once, "-o", twice, *W4]) == 4
    assert "the model is quantized already" in capsys.readouterr().err


def test_quiet_tells_no_notes_and_a_log_file_gets_what_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = model.with_name("log.txt")
    assert main(["quantize", str(model), "-o", str(model), *W4, "--quiet", "--log-file", str(log)]) == 2
    assert log.read_text() == capsys.readouterr().err
    assert "is the model that was read" in log.read_text()
    assert begin(["prune", "--quiet", "a", "--", "--verbose"]) == ["prune", "a", "--", "--verbose"]
    assert mode.quiet
    assert not mode.verbose
    begin([])


def test_work_that_takes_long_is_told_in_lines_for_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("intaglio.cli.console.LINE_SECONDS", 0.0)
    with progress("quantizing") as tick:
        tick(1, 4)
        tick(7, None)
    assert capsys.readouterr().err == "quantizing: 25%\nquantizing: 7\n"


def test_env_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["onnxruntime"][0].isdigit()
    assert {"intaglio", "python", "machine", "kernels", "plugins"} <= found.keys()
    assert main(["env"]) == 0


@pytest.mark.parametrize(
    ("line", "offered"),
    [("quantize m.onnx --scheme w", "w4"), ("prune m.onnx --criterion l", "l2"), ("quantize m.onnx --target x", "x86")],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_values(line: str, offered: str, shell: str) -> None:
    words = f"intaglio {line}"
    told = {
        "_INTAGLIO_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, "-m", "intaglio"]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False)
    assert offered in done.stdout
