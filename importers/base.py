"""What every importer is: it makes the standard graph of what a framework holds.

Modules of this folder are imported to list sources: what takes long to import is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from ..graph.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

IMPORTERS: Registry[Importer] = Registry("importer", "intaglio.importers", "intaglio.importers", of=(), flat=True)
AnyImporter = TypeVar("AnyImporter", bound="type[Importer]")
Feeds = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Source:
    """What is to be imported: a path, or ``package.module:factory`` with the ``thing`` that the factory gave.

    ``shapes`` are of inputs by their names, -1 for a dimension of any length.
    """

    text: str
    shapes: Mapping[str, Sequence[int]]
    thing: Any = None

    @property
    def path(self) -> Path:
        return Path(self.text)


@dataclass(frozen=True)
class Imported:
    """The model, and what computes the same in the framework: all inputs to all outputs, by the model's names.

    ``sqnr_db`` is how close the two must be.
    """

    model: Model
    reference: Callable[[Feeds], Feeds] | None = None
    notes: tuple[str, ...] = ()
    sqnr_db: float = 60.0


class Importer(BaseModel, ABC):
    """A kind of source; its fields are its options, each with a description.

    ``extra``, ``imports`` and ``package`` are as of exporters. ``suffixes`` are those of files that it reads; ``modules`` the
    packages whose objects it takes from factories, ``holds`` a file that marks a folder of its kind. The first line of the docstring tells users what is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    imports: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    holds: ClassVar[str] = ""

    @classmethod
    def with_options(cls, options: Importer) -> Importer:
        """An importer is its own options."""
        return options

    @abstractmethod
    def read(self, source: Source) -> Imported:
        """Raises BadModel where the source is not what it should be, or holds what ONNX cannot say, with the reason."""


def importer(name: str) -> Callable[[AnyImporter], AnyImporter]:
    """Register an importer under a name, its fields as its options."""

    def add(kind: AnyImporter) -> AnyImporter:
        kind.name = name
        return IMPORTERS.register(name, options=kind)(kind)

    return add
