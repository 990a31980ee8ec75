"""What trials share: a folder of steps, arrays and figures, each known by its content, for many processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...graph.io.place import alone, temporary
from ...passes.kept import Kept
from ..steps import FIGURES, Store

MOST = 4 << 30
"""Bytes that the folder may take unless it is told otherwise."""


@dataclass(frozen=True)
class Cache:
    """``key`` is a hash of what all trials of a study are given. What was not used for longest goes first."""

    folder: Path
    key: str
    most: int = MOST

    def store(self) -> Store:
        """Of models that passes made."""
        (self.folder / "steps").mkdir(parents=True, exist_ok=True)
        return Store(self.folder / "steps", self.key, shared=True)

    def kept(self, after: str) -> Kept:
        """Of arrays that a pass works out of the model that is known as ``after``."""
        return Kept(self.folder / "arrays", after)

    def figures(self, key: str) -> dict[str, Any] | None:
        """What an earlier trial gave; None where there was none."""
        with suppress(OSError, ValueError):
            told = json.loads((self.folder / "trials" / f"{key}.json").read_text())
            return told if isinstance(told, dict) else None
        return None

    def keep(self, key: str, figures: dict[str, Any]) -> None:
        """Whole or not at all."""
        folder = self.folder / "trials"
        folder.mkdir(parents=True, exist_ok=True)
        with temporary(folder) as file:
            file.write(json.dumps(figures).encode())
            file.flush()
            os.replace(file.name, folder / f"{key}.json")

    def trim(self) -> None:
        """Until no more is left than may be; whoever finds that something went does it anew."""
        with alone(self.folder / ".lock"):
            entries = sorted(self._entries(), key=lambda one: one[0])
            left = sum(size for _, size, _ in entries)
            for _, size, files in entries:
                if left <= self.most:
                    return
                for file in files:
                    with suppress(OSError):
                        file.unlink()
                left -= size

    def _entries(self) -> Iterator[tuple[float, int, list[Path]]]:
        """When each was used, its bytes, and its files, those first without which the others count for nothing."""
        for path in (self.folder / "arrays").glob("*.npz"):
            with suppress(OSError):
                yield path.stat().st_mtime, path.stat().st_size, [path]
        for figures in (self.folder / "steps").glob(f"*/{FIGURES}"):
            with suppress(OSError):
                rest = [one for one in figures.parent.iterdir() if one != figures]
                yield figures.stat().st_mtime, sum(one.stat().st_size for one in rest), [figures, *rest]


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder that is there meanwhile; where the work fails before anything is in it, it goes again."""
    new = next((one for one in (*reversed(folder.parents), folder) if not one.exists()), None)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new is not None:
            for path, _, _ in os.walk(new, topdown=False):
                with suppress(OSError):  # something is in it
                    os.rmdir(path)
        raise
