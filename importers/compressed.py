"""ONNX files compressed by LZMA or Zstandard."""

from __future__ import annotations

from .base import Imported, Importer, Source, importer


@importer("xz")
class Xz(Importer):
    """An ONNX file compressed by LZMA, as intaglio export --to xz writes it."""

    suffixes = (".xz",)

    def read(self, source: Source) -> Imported:
        from ..graph.io.compressed import load_xz

        return Imported(load_xz(source.path, source.shapes))


@importer("zstd")
class Zstd(Importer):
    """An ONNX file compressed by Zstandard, as intaglio export --to zstd writes it."""

    suffixes = (".zst",)
    extra = "zstd"
    imports = ("zstandard",)

    def read(self, source: Source) -> Imported:
        from ..graph.io.compressed import load_zst

        return Imported(load_zst(source.path, source.shapes))
