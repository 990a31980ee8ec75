"""Whether operators on bits are computed by the library of kernels or by their definitions."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from ..graph.model import Model
from ..kernels import library
from ..kernels.library import KernelError
from ..kernels.operators import DOMAIN

_DOMAIN_MARKS = tuple(len(DOMAIN).to_bytes(size, "little") + DOMAIN.encode() for size in (1, 4))
"""A string with its length before it, as a protobuf and as a flat buffer (``.ort``) hold it."""


@dataclass(frozen=True)
class Kernels:
    """What the library of kernels can do here."""

    built: bool
    """Whether there is a library."""

    isa: str | None
    """The instruction set in force; None without a library, and where one is asked for that is not there."""

    present: tuple[str, ...]
    """The instruction sets that the processor has."""

    why: str = ""
    """Why none is in force, and what to do."""


def kernels() -> Kernels:
    """The library of kernels as it stands."""
    present = tuple(library.cpu_features())
    absent = library.why_absent()
    if absent is not None:
        return Kernels(False, None, present, absent)
    try:
        return Kernels(True, library.isa(), present)
    except KernelError as error:
        return Kernels(True, None, present, f"INTAGLIO_KERNELS: {error}")


def holds_bits(model: Model | Path | str) -> bool:
    """Whether a model uses the domain of the operators on bits. Of a file only its bytes are looked at.

    A file that merely mentions the domain counts as well: registering operators that no node uses changes nothing.
    """
    if isinstance(model, Model):
        return any(opset.domain == DOMAIN for opset in model.proto.opset_import)
    try:
        with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(mark) >= 0 for mark in _DOMAIN_MARKS)
    except (OSError, ValueError):
        return False  # ONNX Runtime tells what is wrong with the file
