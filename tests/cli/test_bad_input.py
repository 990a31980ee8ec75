"""Every command meets broken files with one clear error, exit code 1, and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from .conftest import Command

COMMANDS = ("bench", "check", "compare", "evaluate", "inspect")
BROKEN = {
    "missing": None,
    "empty": b"",
    "text": b"no model at all",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
}
FAULTS = (*BROKEN, "a folder", "truncated")


def arguments(command: str, model: Path) -> tuple[object, ...]:
    """A valid command line for a model with its labelled data beside it."""
    more: dict[str, tuple[object, ...]] = {
        "bench": ("--runs", 1),
        "compare": (model, "--runs", 1),
        "evaluate": ("--data", model.parent / "eight.npz"),
    }
    return command, model, *more.get(command, ())


def spoil(path: Path, fault: str) -> None:
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
        return
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    content = BROKEN.get(fault)
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_model_is_one_clear_error(
    intaglio: Command, classifier: Path, labelled: Path, command: str, fault: str
) -> None:
    spoil(classifier, fault)
    before = sorted(classifier.parent.rglob("*"))
    ran = intaglio(*arguments(command, classifier))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert "internal" not in ran.err
    assert len(ran.err.splitlines()) <= 3
    assert sorted(classifier.parent.rglob("*")) == before
    as_json = intaglio(*arguments(command, classifier), "--json")
    assert (as_json.code, as_json.err) == (1, "")
    assert set(as_json.json) == {"schema", "version", "command", "error"}


@pytest.mark.parametrize("command", ["check", "bench", "evaluate"])
@pytest.mark.parametrize("fault", ["missing", "empty", "text", "truncated"])
def test_broken_data_is_one_clear_error(
    intaglio: Command, classifier: Path, labelled: Path, command: str, fault: str
) -> None:
    spoil(labelled, fault)
    ran = intaglio(command, classifier, "--data", labelled)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert "internal" not in ran.err


@pytest.mark.parametrize("command", ["check", "bench", "evaluate"])
def test_data_for_another_model_names_both_shapes(
    intaglio: Command, classifier: Path, tmp_path: Path, command: str
) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((4, 17), np.float32), labels=np.zeros(4, np.int64))
    ran = intaglio(command, classifier, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "(4, 17)" in ran.err
    assert "(N, 3)" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(intaglio: Command, classifier: Path) -> None:
    classifier.chmod(0)
    ran = intaglio("check", classifier)
    assert ran.code == 1
    assert "ermission" in ran.err


def test_reading_works_from_a_folder_that_cannot_be_written(
    intaglio: Command, classifier: Path, labelled: Path
) -> None:
    classifier.parent.chmod(0o555)
    try:
        for command in COMMANDS:
            assert intaglio(*arguments(command, classifier)).code == 0
    finally:
        classifier.parent.chmod(0o755)


def misfit(folder: Path) -> Path:
    """ONNX Runtime loads it, and fails in its first run."""
    text = "g (float[2, 4] x) => (float[2, 3] y) <int64[2] s = {2, 3}> { r = Reshape(x, s) y = Relu(r) }"
    path = folder / "misfit.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), path)
    return path


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_fault_at_a_model_that_does_not_run_is_told_as_that(
    intaglio: Command, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, json: tuple[str, ...]
) -> None:
    """A fault at one that runs is ours."""

    def broken(*given: object, **named: object) -> None:
        raise KeyError("a weight")

    monkeypatch.setattr("intaglio.pipeline.run.run", broken)
    arguments = ("quantize", "-o", tmp_path / "o.onnx", "--scheme", "w8", *json)
    ours = intaglio(*arguments, classifier)
    theirs = intaglio(*arguments, misfit(tmp_path))
    said = [(ran.json["error"]["what"], ran.json["error"]["why"]) if json else ran.err for ran in (ours, theirs)]
    assert (ours.code, theirs.code) == (1, 1)
    assert "internal: KeyError" in str(said[0])
    assert "internal" not in str(said[1])
    assert all(word in str(said[1]) for word in ("Reshape", "KeyError"))
