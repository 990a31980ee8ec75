"""Whether operators on bits are computed by the library of kernels or by their definitions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...graph.errors import BadModel
from ...graph.io.external import map_file
from ...graph.io.protobuf_wire import MODEL_OPSETS, WireError, fields
from ...graph.model import Model
from ...kernels import loader
from ...kernels.loader import KernelError
from ...kernels.operators import DOMAIN


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
        content, name = map_file(Path(model)), DOMAIN.encode()
        if bytes(content[4:8]) == b"ORTM":  # ONNX Runtime's own format: a flat buffer, strings anywhere in it
            return re.search(name, content) is not None
        parts = fields(content, 0, len(content))
        return any(number == MODEL_OPSETS and name in bytes(content[at:end]) for number, _, _, at, end in parts)
    except (BadModel, WireError):
        return False  # ONNX Runtime tells what is wrong with the file
