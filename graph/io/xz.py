"""Read ONNX files that are compressed by LZMA."""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..errors import BadModel
from ..model import Model
from .load import from_proto
from .save import LARGEST_FILE


def load_xz(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """Raises BadModel where it is no such file, is cut short, holds no model, or more than a model can have."""
    try:
        tool = lzma.LZMADecompressor()
        content = tool.decompress(path.read_bytes(), max_length=LARGEST_FILE)
        if not tool.eof:
            raise EOFError("it is cut short, or larger than a model can be")
        return from_proto(onnx.ModelProto.FromString(content), shapes=shapes)
    except (OSError, EOFError, lzma.LZMAError, DecodeError) as error:
        raise BadModel(f"cannot read {path}", why=str(error), fix="check that it is an ONNX file behind .xz") from error
