"""ONNX files, which hold the standard graph already."""

from ..graph.io.load import load
from .base import IMPORTERS

IMPORTERS.register("onnx")(load)
