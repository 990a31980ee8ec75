"""The safetensors format: a header in JSON with type, shape and place of each tensor, then their bytes.

Source: the format's description at huggingface/safetensors, README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from ...graph.errors import IntaglioError

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
