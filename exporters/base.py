"""What every exporter is: a function from the standard graph to a file, or files, that a runtime takes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..graph.model import Model
from ..graph.registry import Registry


class Exporter(Protocol):
    """Writes a model, whole or not at all. Raises IntaglioError where the format has no way to say what it does."""

    def __call__(self, model: Model, path: Path, /) -> None: ...


EXPORTERS: Registry[Exporter] = Registry("exporter", "intaglio.exporters", "intaglio.exporters")
