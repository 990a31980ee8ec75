"""ONNX files behind a general compressor: for storage and transport, where weights hold little beside many bytes."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Artifact, Exporter, Runner, exporter
from .onnx import SessionRunner

if TYPE_CHECKING:
    from ..graph.model import Model


class Compressed(Exporter):
    """``loader`` is how a program opens it in Python."""

    package = "onnxruntime"
    learners = True
    loader: ClassVar[str]

    @property
    def keeps_functions(self) -> bool:
        return True

    @abstractmethod
    def packed(self, content: bytes) -> bytes:
        """As small as the compressor makes it; the same bytes each time."""

    @abstractmethod
    def unpacked(self, path: Path) -> Model:
        """What a file of it holds."""

    def write(self, model: Model, path: Path) -> Artifact:
        from ..graph.io.save import to_bytes

        content = to_bytes(model)
        path.write_bytes(self.packed(content))
        told = f"{path.stat().st_size / len(content):.1%} of the ONNX file's bytes; in Python: {self.loader}"
        return Artifact(path, (told,))

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ..measure.run.session import open_session

        return SessionRunner(open_session(self.unpacked(artifact.path), threads=threads, spin=False))


@exporter("xz")
class Xz(Compressed):
    """An ONNX file compressed by LZMA, smaller to store and send: Python's lzma module opens it, and so do our commands."""

    suffix = ".xz"
    by_name = True
    loader = "onnxruntime.InferenceSession(lzma.open(PATH).read())"

    def packed(self, content: bytes) -> bytes:
        import lzma

        return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)

    def unpacked(self, path: Path) -> Model:
        from ..graph.io.compressed import load_xz

        return load_xz(path)


@exporter("zstd")
class Zstd(Compressed):
    """An ONNX file compressed by Zstandard: a little larger than behind LZMA, and opened many times as fast."""

    suffix = ".zst"
    by_name = True
    extra = "zstd"
    imports = ("zstandard",)
    loader = "onnxruntime.InferenceSession(zstandard.open(PATH).read())"

    def packed(self, content: bytes) -> bytes:
        tool: Any = import_module("zstandard")
        return bytes(tool.ZstdCompressor(level=22, write_checksum=True).compress(content))

    def unpacked(self, path: Path) -> Model:
        from ..graph.io.compressed import load_zst

        return load_zst(path)
