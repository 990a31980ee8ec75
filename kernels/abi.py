"""The structures and functions of the library as its headers declare them."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

VERSION = 1
AUTO = -1
ISAS = ("portable", "neon", "avx2", "avx512")
"""Names of the instruction sets, at their numbers in ``cpu.h``."""

FLOAT, INT32, BITS = range(3)
FLOAT32, INT8 = range(2)
ACTIVATION_FLOAT, ACTIVATION_INT8 = range(2)


class Threads(ctypes.Structure):
    """``ib_threads``: how many threads, and null for the library's own."""

    _fields_ = (("count", c_size_t), ("run", c_void_p), ("context", c_void_p))


class Output(ctypes.Structure):
    """``ib_output``: what becomes of dot products."""

    _fields_ = (
        ("kind", c_int32),
        ("data", c_void_p),
        ("bytes", c_int64),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("threshold", c_void_p),
    )


class Numbers(ctypes.Structure):
    """``ib_numbers``: numbers to pack, with their thresholds."""

    _fields_ = (
        ("dtype", c_int32),
        ("data", c_void_p),
        ("bytes", c_int64),
        ("threshold", c_void_p),
        ("thresholds", c_int64),
    )


class ConvShape(ctypes.Structure):
    """``ib_bconv_shape``."""

    _fields_ = (
        ("planes", c_int64),
        ("channels", c_int64),
        ("outputs", c_int64),
        ("groups", c_int64),
        ("kernel", c_int64 * 2),
        ("strides", c_int64 * 2),
        ("dilations", c_int64 * 2),
        ("pads", c_int64 * 4),
        ("pad_value", c_int64),
    )


class PoolShape(ctypes.Structure):
    """``ib_bmaxpool_shape``."""

    _fields_ = (
        ("channels", c_int64),
        ("kernel", c_int64 * 2),
        ("strides", c_int64 * 2),
        ("pads", c_int64 * 4),
    )


class Variant(ctypes.Structure):
    """``ib_variant``: an operation that has code for an instruction set."""

    _fields_ = (("operation", c_char_p), ("isa", c_int))


_STATUS = c_int
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ib_version": (c_int, ()),
    "ib_message": (c_char_p, (c_int,)),
    "ib_isa_present": (c_int, (c_int,)),
    "ib_force": (_STATUS, (c_int,)),
    "ib_isa_now": (_STATUS, (POINTER(c_int),)),
    "ib_variant_at": (POINTER(Variant), (c_size_t,)),
    "ib_peak": (_STATUS, (c_int, c_int64, POINTER(c_double))),
    "ib_bitpack_rows": (
        _STATUS,
        (c_int, c_int64, c_int64, POINTER(Numbers), c_void_p, c_int64, POINTER(Threads)),
    ),
    "ib_bitpack_planes": (
        _STATUS,
        (c_int, c_int64, c_int64, c_int64, POINTER(Numbers), c_void_p, c_int64, POINTER(Threads)),
    ),
    "ib_bgemm_prepare": (_STATUS, (c_int, c_int64, c_int64, c_int64, c_void_p, c_int64, POINTER(c_void_p))),
    "ib_bgemm_run": (_STATUS, (c_void_p, c_int64, c_void_p, c_int64, POINTER(Output), POINTER(Threads))),
    "ib_bgemm_free": (None, (c_void_p,)),
    "ib_bconv_prepare": (_STATUS, (c_int, POINTER(ConvShape), c_void_p, c_int64, POINTER(c_void_p))),
    "ib_bconv_run": (
        _STATUS,
        (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64, POINTER(Output), POINTER(Threads)),
    ),
    "ib_bconv_free": (None, (c_void_p,)),
    "ib_bmaxpool_run": (
        _STATUS,
        (POINTER(PoolShape), c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, POINTER(Threads)),
    ),
    "ib_wgemv_prepare": (
        _STATUS,
        (c_int, c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, POINTER(c_void_p)),
    ),
    "ib_wgemv_run": (_STATUS, (c_void_p, c_int, c_int64, c_void_p, c_int64, c_void_p, c_int64, POINTER(Threads))),
    "ib_wgemv_free": (None, (c_void_p,)),
}
"""What each function returns (``_STATUS``: a value of ``status.h``) and takes."""


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the types of every function. Raises AttributeError where the library lacks one."""
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
