"""Large arrays in temporary files that have no name, mapped: the system writes them out where it needs the memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

LEAST = 1 << 16
"""Bytes from which on an array goes to a file."""
_FILE, _ALIGNMENT = 1 << 26, 64
"""Bytes of a file that several arrays share, and what each begins at a multiple of."""
_PIECE, _AT_ONCE = 1 << 24, 1 << 17
_USUAL = "/var/tmp"
"""By custom on a disk, where /tmp may be memory."""


def spilled(value: np.ndarray) -> np.ndarray:
    """The same numbers, read-only, in a file where they are many; as they are where they lie in one, or none can be had.

    Files are made in the folder that TMPDIR names, else in /var/tmp. They go with the last array that lies in them.
    """
    if value.nbytes < LEAST or value.dtype.hasobject or is_mapped(value):
        return value
    with suppress(OSError):
        return np.frombuffer(_file_for(value.nbytes).added(value), value.dtype).reshape(value.shape)
    return value


class _File:
    """Several arrays behind each other. Of forked processes each has its own."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.owner = size, 0, os.getpid()
        self._file = tempfile.TemporaryFile(prefix="intaglio-", dir=_folder(), buffering=0)  # noqa: SIM115
        self._file.truncate(size)
        self._content = memoryview(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ))

    def takes(self, size: int) -> bool:
        return self.owner == os.getpid() and self.used + size <= self.size

    def added(self, value: np.ndarray) -> memoryview:
        start, self.used = self.used, self.used + value.nbytes + -value.nbytes % _ALIGNMENT
        self._file.seek(start)
        for piece in pieces_of(value):
            while piece:
                piece = piece[self._file.write(piece) :]
        return self._content[start : start + value.nbytes]


_files: list[_File] = []
"""The one that is being filled."""


def _file_for(size: int) -> _File:
    if not (_files and _files[0].takes(size)):
        fresh = _File(max(_FILE, size))
        if size > _FILE:
            return fresh
        _files[:] = [fresh]
    return _files[0]


def pieces_of(value: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in order, few of them copied at once where they do not lie so."""
    if value.flags.c_contiguous or value.nbytes <= _PIECE:
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        return
    if len(value) == 1:
        yield from pieces_of(value[0])
        return
    few = max(1, _PIECE * len(value) // value.nbytes)
    for start in range(0, len(value), few):
        yield from pieces_of(value[start : start + few])


def slices_of(value: np.ndarray) -> list[np.ndarray]:
    """The elements in order, so many at a time that copies of them in float64 are small."""
    flat = value.reshape(-1)
    return [flat[start : start + _AT_ONCE] for start in range(0, flat.size, _AT_ONCE)]


def is_finite(value: np.ndarray) -> bool:
    """Whether all elements are numbers."""
    return all(np.isfinite(some).all() for some in slices_of(value))


def largest(value: np.ndarray) -> float:
    """Size of the largest element."""
    return max((float(np.abs(some).max()) for some in slices_of(value)), default=0.0)


def is_mapped(value: np.ndarray) -> bool:
    """Whether an array is a view of a file."""
    base: Any = value
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


def _folder() -> str | None:
    return _USUAL if "TMPDIR" not in os.environ and os.access(_USUAL, os.W_OK) else None


class Weights(dict[str, np.ndarray]):
    """Weights by name, in order. What is put in goes to a file where it is large."""

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        super().__setitem__(name, spilled(value))

    def update(self, other: Any = (), /, **more: np.ndarray) -> None:
        """As of any mapping."""
        pairs: Iterable[tuple[str, np.ndarray]] = other.items() if isinstance(other, Mapping) else other
        for name, value in (*pairs, *more.items()):
            self[name] = value
