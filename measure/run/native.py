"""Whether operators on bits are computed by the library of kernels or by their definitions."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...graph.model import Model
from ...kernels import loader
from ...kernels.loader import KernelError
from ...kernels.operators import DOMAIN

_OPSET_IMPORT = 8
"""Number of the field of ``onnx.ModelProto`` that names the domains of a model."""


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
    present = tuple(loader.cpu_features())
    absent = loader.why_absent()
    if absent is not None:
        return Kernels(False, None, present, absent)
    try:
        return Kernels(True, loader.isa(), present)
    except KernelError as error:
        return Kernels(True, None, present, f"INTAGLIO_KERNELS: {error}")


def holds_bits(model: Model | Path | str) -> bool:
    """Whether a model uses the domain of the operators on bits. Of a file no more is read than where it says so.

    A file that merely mentions the domain counts as well: registering operators that no node uses changes nothing.
    """
    if isinstance(model, Model):
        return any(opset.domain == DOMAIN for opset in model.proto.opset_import)
    try:
        with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[4:8] == b"ORTM":  # ONNX Runtime's own format: a flat buffer, strings anywhere in it
                return content.find(DOMAIN.encode()) >= 0
            return any(DOMAIN.encode() in content[start:end] for start, end in _parts(content, _OPSET_IMPORT))
    except (OSError, ValueError, LookupError):
        return False  # ONNX Runtime tells what is wrong with the file


def _parts(content: mmap.mmap, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the fields of one number lie in a protobuf message. Other fields, the whole graph, are stepped over.

    Source: Protocol Buffers, encoding: protobuf.dev/programming-guides/encoding.
    """
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        size, at = _varint(content, at) if tag & 7 in (0, 2) else ({1: 8, 5: 4}[tag & 7], at)
        if tag & 7 == 0:
            continue  # the number itself
        if tag >> 3 == wanted:
            yield at, at + size
        at += size


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """A number of 7 bits to a byte, least significant first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
