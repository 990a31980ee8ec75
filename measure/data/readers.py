"""Reading stored arrays piece by piece: what a reader is, and the one for ``.npz`` and ``.npy`` files.

A reader knows the shape and type of each array before it reads one, and never holds more than the piece asked for.
"""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

from ...graph.errors import BadData

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]
ReadRows = Callable[[int], np.ndarray]
LARGEST_SAMPLE_BYTES = 1 << 31
"""One sample above this is a broken or hostile file."""


@dataclass(frozen=True)
class Field:
    """One stored array. ``shape`` counts samples first; it is () for a lone value that holds for all samples."""

    shape: Shape
    dtype: np.dtype


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """Named arrays, read in order. ``count`` is None where the number of samples shows only at the end.

    ``single`` says that each array is taken to be one sample, without a sample axis. ``whole_runs`` says that each sample is
    the complete input of one run, as in ONNX test data sets.
    """

    fields: Mapping[str, Field]
    count: int | None = None
    single: bool = False
    notes: list[str] = field(default_factory=list)
    whole_runs: bool = False
    images: bool = False

    @abstractmethod
    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        """Pieces of ``size`` samples, the last one shorter."""

    def one_sample(self) -> Reader:
        """The same arrays, each taken to be a single sample without a sample axis."""
        fields = {name: Field((1, *f.shape), f.dtype) for name, f in self.fields.items()}
        return replace(self, fields=fields, count=self.count and 1, single=True)


@dataclass(frozen=True, kw_only=True)
class ArrayReader(Reader):
    """Arrays that stand in files, each opened by a function that returns its row reader."""

    openers: Mapping[str, Callable[[ExitStack], ReadRows]]

    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        with ExitStack() as stack:
            read = {name: self.openers[name](stack) for name in names}
            if self.single:
                yield {name: read[name](max(self.fields[name].shape[1:2], default=1))[None] for name in names}
                return
            total = common_count({name: self.fields[name].shape for name in names})
            for start in range(0, total, size):
                yield {name: read[name](min(size, total - start)) for name in names}


def _reader(fields: Mapping[str, Field], openers: Mapping[str, Callable[[ExitStack], ReadRows]]) -> Reader:
    count = max((f.shape[0] for f in fields.values() if f.shape), default=1)
    return ArrayReader(fields=fields, openers=openers, count=count)


def common_count(shapes: Mapping[str, Shape]) -> int:
    """How many samples the arrays hold; lone values hold for any number. Raises BadData where they disagree."""
    counts = {name: shape[0] for name, shape in shapes.items() if shape}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {n}" for name, n in counts.items())
        raise BadData(
            "the arrays do not hold the same number of samples", why=told, fix="give every array one row per sample"
        )
    return next(iter(counts.values()), 1)


def read_npz(path: Path) -> Reader:
    """An ``.npz`` archive, its members streamed."""
    fields = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as stream:
                        fields[member[:-4]] = _header(stream, f"{path.name}: {member[:-4]}")[0]
    except BROKEN as error:
        raise unreadable(path, error) from error
    if not fields:
        raise BadData(f"{path} holds no arrays", fix="write it with numpy.savez(path, input_name=array, labels=labels)")
    return _reader(fields, {name: _npz_opener(path, name) for name in fields})


def read_npy_files(paths: Mapping[str, Path]) -> Reader:
    """``.npy`` files by the name of what they hold, memory-mapped."""
    return read_arrays({name: map_npy(path) for name, path in paths.items()})


def read_arrays(arrays: Mapping[str, np.ndarray]) -> Reader:
    """Arrays that are there already."""
    fields = {name: Field(a.shape, a.dtype) for name, a in arrays.items()}
    return _reader(fields, {name: _rows_of(a) for name, a in arrays.items()})


def map_npy(path: Path) -> np.ndarray:
    """A memory-mapped ``.npy``. Raises BadData."""
    try:
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise unreadable(path, error) from error
    return mapped


BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError)
"""What NumPy and zipfile raise on a file they cannot make sense of."""


def unreadable(path: Path, error: BaseException) -> BadData:
    """The same trouble, told to a user."""
    if "pickle" in str(error) or "Object arrays" in str(error):
        return BadData(
            f"{path} holds Python objects",
            why="reading them would run code from the file",
            fix="save plain arrays: the same shape for every sample, and a numeric type",
        )
    why, fix = _diagnosis(path)
    return BadData(f"cannot read {path}", why=why or str(error) or type(error).__name__, fix=fix)


def _diagnosis(path: Path) -> tuple[str, str]:
    """What the first bytes tell of a broken file, and what to do."""
    again = "copy or write it again"
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        return "it is empty", again
    if head.startswith(b"\x93NUMPY") and path.suffix.lower() != ".npy":
        return "it holds one array, as an .npy file does", "call it .npy"
    if head.startswith(b"PK") and path.suffix.lower() == ".npy":
        return "it is an archive, as an .npz file is", "call it .npz"
    if head.startswith((b"PK", b"\x93NUMPY")):
        return "it begins right but is cut short or damaged", again
    return "", "it is of another kind: write .npz with numpy.savez, .npy with numpy.save"


def _header(stream: IO[bytes], name: str) -> tuple[Field, bool]:
    """Shape, type and Fortran order of an ``.npy`` stream, which is left where the data begin."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise BadData(f"{name} is a structured array", fix="save one plain array per name")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays")
    sample_bytes = float(np.prod(shape[1:], dtype=np.float64)) * dtype.itemsize
    if sample_bytes > LARGEST_SAMPLE_BYTES:
        raise BadData(f"one sample of {name} takes {sample_bytes / 1e9:.3g} GB", why=f"its shape is {shape}")
    return Field(tuple(shape), dtype), fortran


def _npz_opener(path: Path, name: str) -> Callable[[ExitStack], ReadRows]:
    def opener(stack: ExitStack) -> ReadRows:
        stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(f"{name}.npy"))
        found, fortran = _header(stream, f"{path.name}: {name}")
        if not found.shape:
            return _rows_of(_read_rows(stream, found, 1, path))(stack)
        if fortran and len(found.shape) > 1:  # its first axis is scattered over the file
            with np.load(path, allow_pickle=False) as archive:
                return _rows_of(archive[name])(stack)
        return lambda count: _read_rows(stream, found, count, path)

    return opener


def _read_rows(stream: IO[bytes], found: Field, count: int, path: Path) -> np.ndarray:
    shape = (count, *found.shape[1:]) if found.shape else ()
    size = int(np.prod(shape, dtype=np.int64)) * found.dtype.itemsize
    try:
        raw = stream.read(size)
    except BROKEN as error:
        raise unreadable(path, error) from error
    if len(raw) != size:
        raise BadData(f"cannot read {path}", why="it ends before its last sample", fix="copy or write it again")
    return np.frombuffer(raw, found.dtype).reshape(shape)


def _rows_of(array: np.ndarray) -> Callable[[ExitStack], ReadRows]:
    def opener(stack: ExitStack) -> ReadRows:
        position = 0

        def rows(count: int) -> np.ndarray:
            nonlocal position
            position += count
            return array[position - count : position] if array.ndim else array

        return rows

    return opener
