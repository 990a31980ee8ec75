"""What pickled files name, found without unpickling: reading such a file runs code that is in it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LARGEST = 64 << 20
"""Bytes of instructions that are looked at; the numbers of weights lie elsewhere."""
_PICKLES = 5
"""What torch wrote before 1.6 is so many pickles in a row, the object among the first four."""
_TENSORS = (
    "collections.OrderedDict",
    "torch._utils.",
    "torch._tensor.",
    "torch.storage.",
    "torch.nn.parameter.Parameter",
)
_STRINGS = frozenset("SHORT_BINUNICODE BINUNICODE UNICODE BINUNICODE8 SHORT_BINSTRING BINSTRING STRING".split())  # noqa: SIM905
_BEFORE = _STRINGS | {"PROTO", "FRAME", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"}
"""Instructions that make nothing."""


@dataclass(frozen=True)
class Pickled:
    """Classes and functions that a file names, but for those of tensors; ``whole`` is the first where all of it is one object."""

    names: tuple[str, ...]
    whole: str = ""


def pickled(path: Path) -> Pickled | None:
    """What a file names, as torch or pickle wrote it; None where it is no such file."""
    found: list[str] = []
    whole = ""
    try:
        for content in _contents(path):
            for first, name in _named(content):
                found.append(name)
                whole = whole or (name if first else "")
    except (ValueError, KeyError, IndexError, EOFError, OSError, UnicodeError, zipfile.BadZipFile):
        return None
    return Pickled(tuple(dict.fromkeys(found)), whole)


def _contents(path: Path) -> Iterator[io.BytesIO]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name == "data.pkl" or name.endswith("/data.pkl"):
                    with archive.open(name) as file:
                        yield io.BytesIO(file.read(_LARGEST))
                    return
        raise ValueError("there is no data.pkl")
    with path.open("rb") as file:
        content = io.BytesIO(file.read(_LARGEST))
    for k in range(_PICKLES):
        if k and content.getvalue()[content.tell() :][:1] != b"\x80":
            return
        yield content


def _named(content: io.BytesIO) -> Iterator[tuple[bool, str]]:
    """Names in one pickle, and whether that is what all of it is made from."""
    memo: dict[int, str] = {}
    strings: list[str] = []
    before = 0
    for operation, value, _ in pickletools.genops(content):
        name = ""
        if operation.name in _STRINGS:
            strings.append(str(value))
        elif operation.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if value is None else int(value)] = strings[-1] if strings else ""
        elif operation.name in ("BINGET", "LONG_BINGET", "GET"):
            strings.append(memo.get(int(value or 0), ""))
        elif operation.name in ("GLOBAL", "INST"):
            name = str(value).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            name = ".".join(strings[-2:])
        if name and not _is_of_tensors(name):
            yield before == 0, name
        before += operation.name not in _BEFORE


def _is_of_tensors(name: str) -> bool:
    module, _, last = name.rpartition(".")
    plain = module in ("builtins", "__builtin__") and last in ("set", "dict", "list", "complex", "bytearray")
    return plain or module == "torch" or name.startswith(_TENSORS)
