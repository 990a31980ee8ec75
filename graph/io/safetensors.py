"""The safetensors format: a header in JSON with type, shape and place of each tensor, then their bytes.

Source: the format's description at huggingface/safetensors, README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import BadModel, IntaglioError

TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def to_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A file of these tensors. Raises IntaglioError for an element type that the format does not have."""
    header, pieces, place = {}, [], 0
    for name, value in tensors.items():
        if value.dtype.name not in TYPES:
            raise IntaglioError(f"safetensors have no type for {name!r}, {value.dtype.name}")
        content = np.ascontiguousarray(value).tobytes()
        span = [place, place + len(content)]
        header[name] = {"dtype": TYPES[value.dtype.name], "shape": list(value.shape), "data_offsets": span}
        pieces.append(content)
        place += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(pieces)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, mapped into memory. Raises BadModel for what is no such file, or is cut off."""
    size = path.stat().st_size if path.is_file() else 0
    if size < 8:
        raise BadModel(f"{path} is no safetensors file", why="it is too short" if size else "there is no such file")
    content = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(content[:8].tobytes(), "little")
    try:
        if length > size - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(content[8 : 8 + length].tobytes())
        return {
            name: _tensor(name, one, content[8 + length :]) for name, one in header.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadModel(f"{path} is no safetensors file", why=str(error)) from error


def _tensor(name: str, told: Mapping[str, Any], content: np.ndarray) -> np.ndarray:
    known = {short: np.dtype(getattr(ml_dtypes, long, long)) for long, short in TYPES.items()}
    if told["dtype"] not in known:
        raise ValueError(f"tensor {name!r} is of type {told['dtype']}")
    kind, shape, (begin, end) = known[told["dtype"]], [int(n) for n in told["shape"]], told["data_offsets"]
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= content.size or end - begin != prod(shape) * kind.itemsize:
        raise ValueError(f"tensor {name!r} does not lie where the header says")
    return content[begin:end].view(kind).reshape(shape)
