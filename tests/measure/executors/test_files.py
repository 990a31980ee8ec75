"""Files are found by what is in them, where they lie or where they were brought."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.graph.errors import BadData
from intaglio.measure.executors import files
from intaglio.measure.executors.files import located, named


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Contents by hash, as an executor brings them, and a folder of this test's for them."""
    store: dict[str, bytes] = {}

    def pieces(digest: str) -> Iterator[bytes]:
        whole = store[digest]
        return (whole[k : k + 5] for k in range(0, len(whole), 5))

    monkeypatch.setattr(files, "BROUGHT", pieces)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    files._located.cache_clear()
    return store


def written(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"the model itself")
    (folder / "deep" / "weights.data").write_bytes(b"its weights")
    return folder


def test_a_file_is_taken_where_it_lies(tmp_path: Path, brought: dict[str, bytes]) -> None:
    folder = written(tmp_path / "there")
    assert located(named(folder / "model.onnx", [folder / "deep" / "weights.data"])) == folder / "model.onnx"
    assert located(named(folder)) == folder


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_not_seen_comes_by_its_hash(whole: bool, tmp_path: Path, brought: dict[str, bytes]) -> None:
    folder = written(tmp_path / "there")
    told = named(folder) if whole else named(folder / "model.onnx", [folder / "deep" / "weights.data"])
    times = {name: (folder / name).stat().st_mtime_ns for name, _, _ in told["files"]}
    for name, digest, _ in told["files"]:
        brought[digest] = (folder / name).read_bytes()
    folder.rename(tmp_path / "elsewhere")
    found = located(told)
    root = found if whole else found.parent
    assert root != folder
    assert (root / "model.onnx").read_bytes() == b"the model itself"
    assert (root / "deep" / "weights.data").read_bytes() == b"its weights"
    assert {name: (root / name).stat().st_mtime_ns for name in times} == times  # folders are known by them


def test_another_file_at_the_same_place_is_not_taken(tmp_path: Path, brought: dict[str, bytes]) -> None:
    path = written(tmp_path / "there") / "model.onnx"
    told = named(path)
    path.write_bytes(b"the model ITSELF")
    with pytest.raises(BadData, match="is not the file that was asked about"):
        located(told)
    digest = hashlib.sha256(b"the model itself").hexdigest()
    brought[digest] = b"something else"
    with pytest.raises(BadData, match="is not the file that was asked about"):
        located(told)
    brought[digest] = b"the model itself"
    assert located(told).read_bytes() == b"the model itself"


def test_nothing_is_put_outside_of_its_folder(tmp_path: Path, brought: dict[str, bytes]) -> None:
    content = b"run me"
    digest = hashlib.sha256(content).hexdigest()
    brought[digest] = content
    for name in ("../../escaped", str(tmp_path / "escaped")):
        with pytest.raises(BadData, match="lies outside"):
            located({"root": str(tmp_path / "gone"), "name": "m", "files": [[name, digest, 0]]})
    assert not list(tmp_path.rglob("escaped"))
