"""What every importer is: a function from a file to the standard graph."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..graph.model import Model
from ..graph.registry import Registry


class Importer(Protocol):
    """Reads a file of some framework. Raises BadModel where it is none, saying why."""

    def __call__(self, path: Path, /) -> Model: ...


IMPORTERS: Registry[Importer] = Registry("importer", "intaglio.importers", "intaglio.importers")
