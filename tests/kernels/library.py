"""The structures and functions of the library as its headers declare them, for tests and benchmarks to call."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any, NamedTuple

from intaglio.kernels import loader
from intaglio.kernels.loader import ISAS, KernelError, check

AUTO = -1

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


class _Variant(ctypes.Structure):
    """``ib_variant``: an operation that has code for an instruction set."""

    _fields_ = (("operation", c_char_p), ("isa", c_int))


_STATUS = c_int
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ib_version": (c_int, ()),
    "ib_message": (c_char_p, (c_int,)),
    "ib_isa_present": (c_int, (c_int,)),
    "ib_force": (_STATUS, (c_int,)),
    "ib_isa_now": (_STATUS, (POINTER(c_int),)),
    "ib_variant_at": (POINTER(_Variant), (c_size_t,)),
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


@cache
def load_library() -> ctypes.CDLL:
    """The loaded library, its functions declared. Raises KernelsAbsent where there is none."""
    library = loader.load_library()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Variant(NamedTuple):
    """An operation that has code of its own for an instruction set."""

    operation: str
    isa: str
    present: bool
    """Whether this processor can run it."""


def number(isa: str | None) -> int:
    """The library's number for an instruction set; None is whichever is in force.

    Raises:
        KernelError: there is no such name.
    """
    if isa is None:
        return AUTO
    if isa not in ISAS:
        raise KernelError(f"no instruction set is called {isa!r}: choose {', '.join(ISAS)}")
    return ISAS.index(isa)


def variants() -> list[Variant]:
    """Every operation and instruction set that the library holds code for."""
    found: list[Variant] = []
    while entry := load_library().ib_variant_at(len(found)):
        isa = entry.contents.isa
        found.append(Variant(entry.contents.operation.decode(), ISAS[isa], bool(load_library().ib_isa_present(isa))))
    return found


def force(isa: str | None) -> None:
    """Use one instruction set from now on, in every thread; None takes it back.

    Weights prepared before keep the one they were prepared for.

    Raises:
        KernelError: the name is unknown, or the processor lacks it.
    """
    check(load_library().ib_force(number(isa)))


@contextmanager
def forced(isa: str | None) -> Iterator[None]:
    """Use one instruction set within a block, then the best again."""
    force(isa)
    try:
        yield
    finally:
        force(None)


def peak(isa: str | None = None, rounds: int = 1000) -> float:
    """Run the instructions of a product on registers alone, and say how many 1-bit multiplications that stood for."""
    macs = ctypes.c_double()
    check(load_library().ib_peak(number(isa), rounds, ctypes.byref(macs)))
    return macs.value
