"""ONNX files compressed by LZMA."""

from __future__ import annotations

from .base import Imported, Importer, Source, importer


@importer("xz")
class Xz(Importer):
    """An ONNX file compressed by LZMA, as intaglio export --to xz writes it."""

    suffixes = (".xz",)

    def read(self, source: Source) -> Imported:
        from ..graph.io.xz import load_xz

        return Imported(load_xz(source.path, source.shapes))
