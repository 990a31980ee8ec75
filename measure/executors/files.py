"""Files by what is in them: whoever asks for work names them with their hashes, and whoever does it finds them.

That is at the same place where there is a file of that hash, else in what an executor brings: see ``Sharing``.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...graph.errors import BadData
from ...graph.io.place import temporary

Named = Mapping[str, Any]
"""``root`` and ``name`` of a file or folder, and of each file that belongs to it, below ``root``, its path, hash and time."""


@runtime_checkable
class Sharing(Protocol):
    """An executor some of whose workers may not see the files of this machine: it brings them those of these hashes."""

    def share(self, files: Mapping[str, Path]) -> None: ...


BROUGHT: Callable[[str], Iterator[bytes]] | None = None
"""In a worker, what gives the content of a hash; raises KeyError where there is none."""


def named(path: Path, beside: Sequence[Path] = ()) -> Named:
    """Of a file, with those ``beside`` it that it needs, or of a folder."""
    whole = path.absolute()
    root = whole if whole.is_dir() else whole.parent
    inside = sorted(Path(where, one) for where, _, names in os.walk(root, followlinks=True) for one in names)
    found = inside if whole.is_dir() else [whole, *(one.absolute() for one in beside)]
    told = [[os.path.relpath(one, root), hash_of(one), one.stat().st_mtime_ns] for one in found]
    return {"root": str(root), "name": "" if whole.is_dir() else whole.name, "files": told}


def share(executor: object, some: Sequence[Named]) -> None:
    """Let an executor bring files to workers that do not see them."""
    if isinstance(executor, Sharing):
        executor.share({digest: Path(one["root"], name) for one in some for name, digest, _ in one["files"]})


def located(one: Named) -> Path:
    """Where it lies here. Raises BadData where it is not, or is another."""
    return _located(json.dumps(one))


@lru_cache(maxsize=64)
def _located(text: str) -> Path:
    one = json.loads(text)
    root = Path(one["root"])
    if all(is_there(root / name, digest) for name, digest, _ in one["files"]):
        return root / one["name"]
    folder = private_folder() / hashlib.sha256(json.dumps(one["files"]).encode()).hexdigest()[:32]
    for name, digest, time in one["files"]:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadData(f"{name} lies outside of {root}", fix="name a folder whose files are in it")
        if not is_there(path, digest):
            _fetch(path, digest, root / name)
        os.utime(path, ns=(time, time))
    return folder / one["name"]


def _fetch(path: Path, digest: str, wanted: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    try:
        with temporary(path.parent) as file:
            for piece in _brought(digest):
                found.update(piece)
                file.write(piece)
            if found.hexdigest() != digest:
                raise KeyError(digest)
            file.flush()
            os.replace(file.name, path)
    except KeyError as error:
        raise BadData(
            f"{wanted} is not the file that was asked about",
            why="a worker looks for it under the same name, and compares its hash",
            fix="put it on a file system that all workers see, and leave it as it is meanwhile",
        ) from error


def _brought(digest: str) -> Iterator[bytes]:
    if BROUGHT is None:
        raise KeyError(digest)
    return BROUGHT(digest)


def private_folder() -> Path:
    """Of this machine and user, for what was brought here."""
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = Path(tempfile.gettempdir()) / f"intaglio-brought-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def is_there(path: Path, digest: str) -> bool:
    """Whether a file of that hash is at that place."""
    return path.is_file() and hash_of(path) == digest


def hash_of(path: Path) -> str:
    """Of the content; read again only where the file is another, or changed."""
    told = path.stat()
    return _hash(str(path), told.st_ino, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash(path: str, *_: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()
