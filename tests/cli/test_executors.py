"""Executors that are not there, or do not start: one clear error, and nothing is left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEARCH: list[Any] = ["search", EXAMPLES / "digits.onnx", "--space", "bits", "--eval-data", EXAMPLES / "digits_test.npz"]
SEARCH += ["--trials", 2, "--executor", "ray", "-o"]


def test_without_ray_one_line_tells_what_to_install(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # its import fails
    done = intaglio(*SEARCH, tmp_path / "out")
    assert done.code == 2
    assert "pip install 'intaglio[ray]'" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["127.0.0.1:1", "ray://127.0.0.1:1", "here"])
def test_where_ray_does_not_start_one_error_tells_it(
    intaglio: Command, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'intaglio[ray]'", exc_type=ImportError)
    if where == "here":  # its sockets would have too long a name
        (deep := tmp_path / ("a" * 100)).mkdir()
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(deep))
    else:
        monkeypatch.setenv("RAY_ADDRESS", where)
    done = intaglio(*SEARCH, tmp_path / "out")
    assert done.code == 1
    what = "Ray does not start" if where == "here" else "no Ray cluster answers at RAY_ADDRESS"
    told = done.err.splitlines()
    assert told[0] == f"error: {what}"
    assert [line.split(":")[0].strip() for line in told] == ["error", "why", "fix"]
    assert not (tmp_path / "out").exists()
