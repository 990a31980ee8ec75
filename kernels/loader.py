"""The library of kernels: found beside this file, loaded on first use, absent where no compiler built it."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

VERSION = 1
ISAS = ("portable", "neon", "avx2", "avx512")
"""Names of the instruction sets, at their numbers in ``cpu.h``."""


class KernelError(ValueError):
    """The library refused what it was asked for. The message is the library's own."""


class KernelsAbsent(RuntimeError):
    """There is no library of kernels to call. The message tells how to get it."""


def path() -> Path | None:
    """The file of the library, or None where none was built."""
    here = Path(__file__).parent
    found = (here / f"_bits{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((file for file in found if file.is_file()), None)


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    file = path()
    if file is None:
        return (
            "the kernels were not built: install a C compiler such as gcc, then intaglio again, from its source "
            "(in a checkout: pip install -e .)"
        )
    try:
        library = ctypes.CDLL(str(file))
        library.ib_message.restype = ctypes.c_char_p
        library.ib_isa_present.argtypes = library.ib_message.argtypes = (ctypes.c_int,)
        library.ib_isa_now.argtypes = (ctypes.POINTER(ctypes.c_int),)
    except (OSError, AttributeError) as error:
        return f"{file.name} cannot be used, it may be from another version or machine: {error}; install intaglio again"
    if library.ib_version() != VERSION:
        return f"{file.name} is of version {library.ib_version()}, not {VERSION}; install intaglio again"
    return library


def available() -> bool:
    """Whether there is a library to call."""
    return isinstance(_load(), ctypes.CDLL)


def why_absent() -> str | None:
    """What is missing and how to get it; None where the library is there."""
    found = _load()
    return found if isinstance(found, str) else None


def load_library() -> ctypes.CDLL:
    """The loaded library, its functions declared.

    Raises:
        KernelsAbsent: there is none.
    """
    found = _load()
    if isinstance(found, str):
        raise KernelsAbsent(found)
    return found


def check(status: int) -> None:
    """Raise KernelError where a function of the library did not return 0."""
    if status:
        raise KernelError(load_library().ib_message(status).decode())


def cpu_features() -> list[str]:
    """The instruction sets that kernels can use on this processor, slowest first; empty without the library."""
    return [isa for index, isa in enumerate(ISAS) if available() and load_library().ib_isa_present(index)]


def isa() -> str:
    """The instruction set in force: what was forced, else what INTAGLIO_KERNELS names, else the best there is.

    Raises:
        KernelError: the variable names one that does not exist or that the processor lacks.
    """
    now = ctypes.c_int()
    check(load_library().ib_isa_now(ctypes.byref(now)))
    return ISAS[now.value]
