"""What new users try first: names that are nearly right, files that would be lost, options that every tool has."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pytest

from intaglio.cli.console import begin, mode, progress
from intaglio.cli.main import main

from .test_console import read_all

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


def test_advice_on_noise_is_for_results_that_suffer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = str(DIGITS.with_name("digits_test.npz"))
    args = [
        "quantize",
        str(model),
        "-o",
        str(model.with_name("a.onnx")),
        "--data",
        test,
        "--samples",
        "64",
        "--no-measure",
    ]
    seen = []
    suffers = ["--scheme", "w2", "--method", "nearest", "--no-protect"]
    for more in (["--scheme", "w4"], ["--scheme", "w4", "--verbose"], suffers):
        assert main([*args, *more, "--eval-data", test]) == 0
        seen.append("noisy: " in capsys.readouterr().out)
    begin([])
    assert seen == [False, True, True]


@pytest.mark.parametrize(
    "command",
    [["quantize"], ["quantize", "--scheme", "w4"], ["prune", "--macs", "0.7", "--criterion", "obspa"],
     ["factorize", "--macs", "0.9"], ["binarize", "--scheme", "planes"]],
)  # fmt: skip
def test_few_samples_are_a_warning_of_all_that_calibrate(
    model: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command
    data = ["--data", str(DIGITS.with_name("digits_test.npz")), "--samples", "7", "--shape", "image:4,1,8,8"]
    out = ["-o", str(model.with_name("a.onnx")), "--no-measure", "--force", "--json"]
    assert main([name, str(model), *data, *options, *out]) == 0
    told = json.loads(capsys.readouterr().out)["warnings"]
    assert any(one.startswith("7 samples of calibration data are few") for one in told)
    assert any(one.startswith("3 of 7 samples fill no run of the model, which takes 4 at once") for one in told)


def test_a_checkout_that_hides_an_installed_package_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "intaglio-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: intaglio\nVersion: 9.9\n")
    (tmp_path / "intaglio").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shadowed"] == str(tmp_path / "intaglio")


def test_a_narrow_terminal_breaks_no_number(model: Path) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "intaglio", "inspect", str(model)]
    ran = subprocess.Popen(command, stdout=child, stderr=child, env={**os.environ, "COLUMNS": "40"})
    os.close(child)
    shown = read_all(parent)
    assert ran.wait() == 0
    assert "/stem/stem.0/Conv\r\n  operator: Conv\r\n  output: 1x24x8x8" in shown
    assert "MACs: 138 k" in shown


SHELLS = {
    "bash": 'eval "$SCRIPT"; COMP_WORDS=(intaglio quantize m.onnx --scheme w); COMP_CWORD=4; '
    "_intaglio_completion intaglio; echo ${COMPREPLY[@]}",
    "zsh": "compdef() { :; }; _arguments() { print -r -- $@; }; eval $SCRIPT; "
    "words=(intaglio quantize m.onnx --scheme w); CURRENT=5; _intaglio_completion",
    "fish": "echo $SCRIPT | source; complete -C 'intaglio quantize m.onnx --scheme w'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_real_shells_complete_values(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "intaglio"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m intaglio "$@"\n')
    program.chmod(0o755)
    told = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = subprocess.run(
        [program], env={**told, "_INTAGLIO_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [shell, "-c", SHELLS[shell]], env={**told, "SCRIPT": script.stdout}, capture_output=True, text=True, check=True
    )
    assert {"w2", "w4", "w8"} <= set(re.findall(r"\bw\d\b", done.stdout)), done


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
