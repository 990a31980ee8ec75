"""``compress`` that is killed between its steps, or runs beside another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
THREE = "passes:\n- pass: prune\n  criterion: l2\n- pass: factorize\n  keep: 0.7\n- pass: quantize\n  scheme: w8\n"
KILLED = '''"""Runs in forks: the k-th is killed before it puts its k-th file in place, then run again."""
import os, signal, sys
from intaglio.cli.main import main

put, first, step, args = os.replace, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def run(out, left=-1):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def replace(*paths):
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        put(*paths)

    os.replace = replace
    os._exit(main([*args, "-o", out]))


assert main([*args, "-o", "whole"]) == 0
kill = first
while run(f"out{kill}", kill) == -signal.SIGKILL:
    assert run(f"out{kill}") == 0
    kill += step
'''


def untimed(told: Any) -> Any:
    if isinstance(told, dict):
        return {
            k: untimed(v) for k, v in told.items() if k not in ("seconds", "search_seconds", "out", "notes", "machine")
        }
    return [untimed(v) for v in told] if isinstance(told, list) else told


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("every", "least", "asked"),
    [
        (2, 5, "--recipe three.yaml"),
        (7, 2, f"--size 0.15 --data {EXAMPLES / 'digits_calib.npz'} --samples 16"),  # a search takes seconds
    ],
    ids=["recipe", "search"],
)
def test_wherever_a_run_is_killed_the_next_gives_what_one_at_a_stretch_does(
    tmp_path: Path, every: int, least: int, asked: str
) -> None:
    (tmp_path / "three.yaml").write_text(THREE)
    given = ["compress", str(DIGITS), *asked.split(), "--no-measure"]
    words = [sys.executable, "-c", KILLED, str(every), str(every), *given]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    outs = sorted(tmp_path.glob("out*"))
    assert len(outs) >= least
    whole = tmp_path / "whole"
    report = untimed(json.loads((whole / "report.json").read_text()))
    for out in outs:
        assert (out / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
        assert untimed(json.loads((out / "report.json").read_text())) == report
        assert {one.relative_to(out) for one in out.rglob("*")} == {one.relative_to(whole) for one in whole.rglob("*")}


WAITS = '''"""An edit that waits until it is let go."""
import time
from pathlib import Path


def wait(graph):
    Path("waiting").touch()
    while not Path("go").exists():
        time.sleep(0.05)
'''


@pytest.mark.skipif(os.name != "posix", reason="no locks on folders")
def test_of_two_runs_into_one_folder_the_second_is_refused(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    (tmp_path / "r.yaml").write_text("passes:\n- pass: edit\n  function: waits:wait\n- pass: quantize\n  scheme: w8\n")
    monkeypatch.chdir(tmp_path)
    given = ("compress", str(DIGITS), "-o", "out", "--no-measure", "--no-keep-steps")
    words = [sys.executable, "-m", "intaglio", *given, "--recipe", "r.yaml"]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(tmp_path)}) as running:
        while not Path("waiting").exists():
            assert running.poll() is None
            time.sleep(0.05)
        second = intaglio(*given, "--recipe", "weights-4bit")
        Path("go").touch()
    assert (second.code, running.returncode) == (1, 0)
    assert "cannot write into out why: another run writes into it" in " ".join(second.err.split())
    assert "scheme: w8" in Path("out/recipe.yaml").read_text()
    assert not Path("out/steps").exists()
    assert intaglio(*given, "--recipe", "weights-4bit").code == 0
