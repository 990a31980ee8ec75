"""Element types as they are stored: how many bits, and whether they are numbers a network learns."""

from __future__ import annotations

from functools import cache

import onnx
from onnx import TensorProto

# By name: older onnx packages do not know all of them.
_PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
_UNKNOWN = "UNDEFINED"


@cache
def bits(data_type: int) -> int:
    """Bits of one stored element; those below a byte are packed. 0 for types that onnx does not know."""
    name = _name(data_type)
    if name == _UNKNOWN:
        return 0
    return _PACKED.get(name) or onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8


def is_known(data_type: int) -> bool:
    """Whether the installed onnx knows an element type by that number."""
    return data_type in TensorProto.DataType.values()


def is_packed(data_type: int) -> bool:
    """Whether elements share bytes, so that an array cannot be a view on them."""
    return bits(data_type) % 8 != 0


@cache
def is_float(data_type: int) -> bool:
    name = _name(data_type)
    return name == "DOUBLE" or "FLOAT" in name


@cache
def is_number(data_type: int) -> bool:
    return _name(data_type) not in (_UNKNOWN, "STRING", "BOOL")


def stored_bytes(elements: int, data_type: int) -> int:
    return -(-elements * bits(data_type) // 8)


def _name(data_type: int) -> str:
    return TensorProto.DataType.Name(data_type) if is_known(data_type) else _UNKNOWN
