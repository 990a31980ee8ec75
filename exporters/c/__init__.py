"""C99 without dependencies: a header, a source with the weights in it, and memory planned when it is written.

``net`` makes of a model few operations, with constants folded and integers where they were meant; ``ops`` writes each as C;
``planning`` orders them and places what they make; ``source`` puts the files together; ``native`` compiles and runs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ..base import Artifact, Exporter, Runner, exporter

if TYPE_CHECKING:
    from ...graph.model import Model


@exporter("c")
class C(Exporter):
    """A folder of C99 that needs the C library only: a header, a source that holds the weights, a test."""

    fixed = True
    halves = False
    memory: str = Field(
        default="",
        description="Bytes that the arena may take, such as 256KB: steps run again where that saves enough, else it is refused.",
    )

    @property
    def keeps_functions(self) -> bool:
        """Operators on bits are written as such."""
        return True

    def write(self, model: Model, path: Path) -> Artifact:
        from .write import write

        return write(model, path, self.memory)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from .native import Native

        return Native(artifact.path, model)
