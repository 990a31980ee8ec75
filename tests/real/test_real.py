"""Every command on models that people really ship: a right result or a true reason, as the tables say.

``tests/real/fetch.py`` gets the models. ``INTAGLIO_UPDATE_GOLDEN=1`` writes the tables of ``results`` anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.cli.main import main

from .fetch import HERE, Entry, entries
from .runs import COMMANDS, EXACT, MORE, READS, Result, made_up, noise_db, outputs, told_of_groups

MOST_WANTING = 0.05
"""Of the parameters, this much at most may be frozen because an operator has no rule or no shape."""
MOST_KEPT = 102.0
"""Percent of a file that a smaller model may take: what is added to it is a few names and notes."""


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e.name)
def test_every_command_gives_a_right_result_or_a_true_reason(
    entry: Entry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if not entry.path.is_file():
        pytest.skip(f"{entry.path} is absent: python tests/real/fetch.py gets it, INTAGLIO_REAL names the folder")
    golden = HERE / "results" / f"{entry.name}.tsv"
    found = [run(entry, command, tmp_path, capfd) for command in COMMANDS]
    if os.environ.get("INTAGLIO_UPDATE_GOLDEN"):
        golden.write_text("\n".join(result.row for result in found) + "\n")
    known = [Result.of(row) for row in golden.read_text().splitlines()]
    apart = [(a.row, b.row) for a, b in zip(known, found, strict=True) if not b.near(a)]
    assert not apart, "what was said, and what is"


def run(entry: Entry, command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> Result:
    """Run one command in this process, and check what it wrote against the runtime."""
    out, proof, data = folder / f"{command}.onnx", folder / f"{command}.proof.onnx", folder / "data.npz"
    feeds = made_up(entry.name, entry.path)
    np.savez(data, **feeds)  # type: ignore[arg-type]  # the stubs take the arrays for options
    more = MORE.get(entry.name, ()) if command != "check" else ()
    words = [str(data) if word == "DATA" else word for word in COMMANDS[command]]
    writes = [] if command in READS else ["-o", str(out), "--no-measure"]
    writes += ["--proof", str(proof)] if command == "prune" else []
    capfd.readouterr()
    code = main([words[0], str(entry.path), *words[1:], *more, *writes, "--json"])
    said = json.loads(capfd.readouterr().out)
    if code not in (0, 3):
        assert not out.exists()
        assert said["error"]["why"] or said["error"]["what"]
    if not out.exists():
        return Result(command, code, None, None, told(entry, command, code, said, folder))
    onnx.checker.check_model(out)
    before = outputs(proof if command == "prune" else entry.path, feeds)
    noise = noise_db(before, outputs(out, feeds))
    kept = 100 * out.stat().st_size / entry.path.stat().st_size
    assert kept <= MOST_KEPT or code or "not smaller" in str(said["notes"]), f"{command}: larger, and nobody was told"
    assert noise > 80 or command != "prune", "not the original with the removed channels zeroed"
    return Result(command, code, round(kept, 1), round(noise, 1) if noise < EXACT else EXACT, "")


def told(entry: Entry, command: str, code: int, said: dict[str, object], folder: Path) -> str:
    """A line about a run that wrote nothing: what was found, or why not."""
    if code:
        error = said["error"]
        assert isinstance(error, dict)
        line = ": ".join(filter(None, (error["what"], error["why"])))
        return line.replace(str(entry.path), "the model").replace(str(folder), "").replace("\n", " ").replace("\t", " ")
    if command == "groups":
        line, wanting = told_of_groups(entry.path, entry.name)
        assert wanting <= MOST_WANTING
        return line
    return ""
