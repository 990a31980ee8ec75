"""ONNX files behind a general compressor: for storage and transport, where weights hold little beside many bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .base import Artifact, Exporter, Runner, exporter
from .onnx import SessionRunner

if TYPE_CHECKING:
    from ..graph.model import Model

LOADER = "onnxruntime.InferenceSession(lzma.open(PATH).read())"


@exporter("xz")
class Xz(Exporter):
    """An ONNX file compressed by LZMA, smaller to store and send: Python's lzma module opens it, and so do our commands."""

    package = "onnxruntime"
    suffix = ".xz"

    @property
    def keeps_functions(self) -> bool:
        return True

    def write(self, model: Model, path: Path) -> Artifact:
        import lzma

        from ..graph.io.save import to_bytes

        content = to_bytes(model)
        path.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
        told = f"{path.stat().st_size / len(content):.1%} of the ONNX file's bytes; in Python: {LOADER}"
        return Artifact(path, (told,))

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ..graph.io.xz import load_xz
        from ..measure.run.session import open_session

        return SessionRunner(open_session(load_xz(artifact.path), threads=threads, spin=False))
