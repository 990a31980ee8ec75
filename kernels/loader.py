"""The library of kernels: found beside this file, loaded on first use, absent where no compiler built it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from .abi import AUTO, ISAS, VERSION, declare


class KernelError(ValueError):
    """The library refused what it was asked for. The message is the library's own."""


class KernelsAbsent(RuntimeError):
    """There is no library of kernels to call. The message tells how to get it."""


class Variant(NamedTuple):
    """An operation that has code of its own for an instruction set."""

    operation: str
    isa: str
    present: bool
    """Whether this processor can run it."""


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
        declare(library)
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


def cpu_features() -> list[str]:
    """The instruction sets that kernels can use on this processor, slowest first; empty without the library."""
    return [isa for index, isa in enumerate(ISAS) if available() and load_library().ib_isa_present(index)]


def variants() -> list[Variant]:
    """Every operation and instruction set that the library holds code for."""
    found: list[Variant] = []
    while entry := load_library().ib_variant_at(len(found)):
        isa = entry.contents.isa
        found.append(Variant(entry.contents.operation.decode(), ISAS[isa], bool(load_library().ib_isa_present(isa))))
    return found


def isa() -> str:
    """The instruction set in force: what was forced, else what INTAGLIO_KERNELS names, else the best there is.

    Raises:
        KernelError: the variable names one that does not exist or that the processor lacks.
    """
    now = ctypes.c_int()
    check(load_library().ib_isa_now(ctypes.byref(now)))
    return ISAS[now.value]


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
