"""Arrays that one run works out and others take, in any process: orders of channels, statistics."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..graph.io.place import alone, temporary

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Kept:
    """``key`` is a hash of the model, the data and the versions of what computes."""

    folder: Path
    key: str

    def take(self, what: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """What was made before of the same, else what ``make`` gives; ``what`` is all else that decides it."""
        text = json.dumps([self.key, what], sort_keys=True, default=str)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(path.with_suffix(".lock")):
            with suppress(OSError, ValueError, BadZipFile, EOFError), np.load(path, allow_pickle=False) as found:
                arrays = dict(found)
                os.utime(path)
                return arrays
            made = make()
            with temporary(self.folder) as file:
                np.savez(file, **made)  # type: ignore[arg-type]
                file.flush()
                os.replace(file.name, path)
            return made
