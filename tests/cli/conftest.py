"""The command, run in this process as a user would run it, and models on disk to run it on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from intaglio.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout; anything else there fails the test."""
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded


Command = Callable[..., Ran]


@pytest.fixture
def intaglio(capfd: pytest.CaptureFixture[str]) -> Command:
    """``intaglio("inspect", path, "--json")``"""

    def command(*args: object) -> Ran:
        capfd.readouterr()
        code = main([str(a) for a in args])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return command


def write_model(path: Path, inputs: str, outputs: str, body: str, weights: str = "") -> Path:
    """Write a model given as text."""
    held = f" <{weights}>" if weights else ""
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}){held} {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Scores three classes by the input itself: the label is where the input is largest."""
    return write_model(tmp_path / "three.onnx", "float[N,3] x", "float[N,3] y", "y = Mul(x, two)", "float two = {2.0}")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Eight samples of which ``classifier`` gets six right."""
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    x = np.eye(3, dtype=np.float32)[labels]
    x[:2] = x[:2, ::-1].copy()
    x[1] = [1, 0, 0]
    np.savez(tmp_path / "eight.npz", x=x, labels=labels)
    return tmp_path / "eight.npz"


def refused(ran: Ran, folder: Path, code: int, said: str) -> None:
    """The command failed with this code and said so in JSON; the folder stayed empty."""
    assert ran.code == code, (ran.out, ran.err)
    assert said in ran.json["error"]["what"] + ran.json["error"]["why"]
    assert list(folder.iterdir()) == []


def bad_files(intaglio: Command, command: str, model: Path, folder: Path, *args: str) -> None:
    """A file that is cut short, a folder that is not there, and one that cannot be written to."""
    broken, out = folder / "broken.onnx", folder / "out.onnx"
    broken.write_bytes(model.read_bytes()[:5000])
    assert intaglio(command, broken, "-o", out, *args).code == 1
    assert intaglio(command, model, "-o", folder / "no" / "out.onnx", *args).code == 1
    if os.geteuid():
        folder.chmod(0o500)
        assert intaglio(command, model, "-o", out, *args).code == 1
