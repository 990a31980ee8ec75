"""Read ONNX files that are compressed by LZMA or Zstandard."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..errors import BadModel
from ..lazy import require
from ..model import Model
from .load import from_proto
from .save import LARGEST_FILE

EXTRA, IMPORTS = "zstd", ("zstandard",)
_PIECE = 1 << 12
"""Bytes that are decompressed at once: few, as each may become 30,000."""
_CUT = "it is cut short, or larger than a model can be"
Shapes = Mapping[str, Sequence[int]] | None


def load_xz(path: Path, shapes: Shapes = None) -> Model:
    """Raises BadModel where it is no such file, is cut short, holds no model, or more than a model can have."""
    return _load(path, shapes, _of_xz, lzma.LZMAError)


def load_zst(path: Path, shapes: Shapes = None) -> Model:
    """As ``load_xz``. Raises UsageError where Zstandard is not installed."""
    require(".zst files", EXTRA, list(IMPORTS))
    return _load(path, shapes, _of_zst, import_module("zstandard").ZstdError)


def _load(path: Path, shapes: Shapes, content: Callable[[bytes], bytes], wrong: type[Exception]) -> Model:
    try:
        return from_proto(onnx.ModelProto.FromString(content(path.read_bytes())), shapes=shapes)
    except (OSError, EOFError, wrong, DecodeError) as error:
        fix = f"check that it is an ONNX file behind {path.suffix}"
        raise BadModel(f"cannot read {path}", why=str(error), fix=fix) from error


def _of_xz(packed: bytes) -> bytes:
    tool = lzma.LZMADecompressor()
    content = tool.decompress(packed, max_length=LARGEST_FILE)
    if not tool.eof:
        raise EOFError(_CUT)
    return content


def _of_zst(packed: bytes) -> bytes:
    tool: Any = import_module("zstandard").ZstdDecompressor().decompressobj()
    content = bytearray()
    for start in range(0, len(packed), _PIECE):
        content += tool.decompress(packed[start : start + _PIECE])
        if tool.eof or len(content) > LARGEST_FILE:
            break
    if not tool.eof or len(content) > LARGEST_FILE:
        raise EOFError(_CUT)
    return bytes(content)
