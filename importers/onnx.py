"""ONNX files, which hold the standard graph already."""

from __future__ import annotations

from .base import Imported, Importer, Source, importer


@importer("onnx")
class Onnx(Importer):
    """An ONNX file of any operator set, its weights in it or beside it."""

    suffixes = (".onnx",)

    def read(self, source: Source) -> Imported:
        from ..graph.io.load import load

        return Imported(load(source.path, shapes=source.shapes))
