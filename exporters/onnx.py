"""ONNX files, which ONNX Runtime and many others run as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Artifact, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model


@exporter("onnx")
class Onnx(Exporter):
    """An ONNX file, for ONNX Runtime and all that reads such files."""

    package = "onnxruntime"
    suffix = ".onnx"

    def write(self, model: Model, path: Path) -> Artifact:
        from ..graph.io.save import save

        save(model, path)
        return Artifact(path)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ..measure.run.session import open_session

        return SessionRunner(open_session(artifact.path, threads=threads, spin=False))


class SessionRunner(Runner):
    """A session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        from ..measure.run.session import run

        return run(self._session, inputs)

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        from ..measure.run.session import fed

        feed = fed(self._session, inputs)
        return lambda: self._session.run(None, feed)
