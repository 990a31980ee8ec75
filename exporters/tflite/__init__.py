"""TFLite files, for LiteRT and TFLite Micro: written without TensorFlow, by the schema that LiteRT's package brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..base import Artifact, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ...graph.model import Model
    from ...measure.litert.session import Session


@exporter("tflite")
class TFLite(Exporter):
    """A .tflite file, for LiteRT and TFLite Micro, in floats or in integers."""

    extra = "litert"
    imports = ("ai_edge_litert",)
    package = "ai-edge-litert"
    suffix = ".tflite"
    fixed = True
    halves = False

    io: Literal["float", "integer"] = Field(
        "float", description="Inputs and outputs: as the model has them, or rounded."
    )
    layout: Literal["channels-last", "as-given"] = Field(
        "channels-last", description="Axes of images that go in and out: NHWC, or as the model has them."
    )

    def write(self, model: Model, path: Path) -> Artifact:
        from .convert import Ends, program_of
        from .flatbuffer import to_bytes
        from .micro import arena

        program = program_of(model, Ends(as_given=self.layout == "as-given", integer=self.io == "integer"))
        content = to_bytes(program)
        path.write_bytes(content)
        return Artifact(path, tuple(program.notes()), {} if program.floats else arena(content))

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ...measure.litert.session import Session

        return _Runner(Session(artifact.path.read_bytes(), threads=threads))


class _Runner(Runner):
    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return self._session.run(inputs)

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        self._session.run(inputs)
        return self._session.interpreter.invoke
