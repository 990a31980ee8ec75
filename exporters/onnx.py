"""ONNX files, which ONNX Runtime and many others run as they are."""

from ..graph.io.save import save
from .base import EXPORTERS

EXPORTERS.register("onnx")(save)
