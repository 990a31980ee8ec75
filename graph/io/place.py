"""Put written files in their places: whole or not at all, and nothing that a killed run left behind stays."""

from __future__ import annotations

import errno
import mmap
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out, and leftovers stay
    fcntl = None  # type: ignore[assignment]

DIGEST_SIZE = 16
"""Hexadecimal digits of the content's hash in the name of a data file."""

_TEMPORARY = re.compile(r"\.intaglio-[0-9a-f]{16}\.tmp")
_LOCK_SECONDS = 60.0
# The first byte of an ONNX file: field 1, the IR version, which every writer puts first.
_FIRST_BYTE = b"\x08"


@contextmanager
def temporary(folder: Path) -> Iterator[BinaryIO]:
    """A new file, locked while its writer lives; it goes without a trace unless it was renamed."""
    made: list[Path] = []
    try:
        file = _locked_file(folder, made)
        try:
            yield file
        finally:
            with suppress(OSError):  # what could not be written cannot be flushed either
                file.close()
    finally:
        for path in made:
            with suppress(OSError):  # renamed, or swept away
                path.unlink()


def _locked_file(folder: Path, made: list[Path]) -> BinaryIO:
    while True:
        made.append(
            folder / f".intaglio-{secrets.token_hex(8)}.tmp"
        )  # known before it exists: interrupts come any time
        file = open(made[-1], "xb", buffering=1 << 20)  # noqa: SIM115
        if fcntl:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another run took it for a leftover before it was locked


def sweep(folder: Path) -> None:
    """Remove temporary files whose writer is no more: nobody holds their lock."""
    if not fcntl:
        return
    for entry in _entries(folder):
        if _TEMPORARY.fullmatch(entry.name):
            with suppress(OSError):  # it is being written, or another's
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Written:
    """A model on the disk, under temporary names: its file, and its data file with the digest of its content."""

    target: Path
    file: BinaryIO
    data: BinaryIO | None = None
    digest: str = ""

    def place(self) -> None:
        """Rename the data first, the model last, then remove the data of the model that was there before.

        At every moment the model file is whole and refers to data that are whole.
        """
        with replacing(self.target):
            if self.data:
                _rename(self.data, self.target.with_name(data_name(self.target, self.digest)), self.target)
            _rename(self.file, self.target, self.target)


@contextmanager
def replacing(target: Path) -> Iterator[None]:
    """No other run puts files into that folder meanwhile; data of the model that was there go once nothing refers to them."""
    with _alone_in(target.parent):
        former = _data_of(target)
        yield
        _sync(target.parent)
        for path in former:
            if not _is_referred_to(path):
                with suppress(OSError):
                    path.unlink()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process is in here with that file meanwhile, however long it takes."""
    if not fcntl:
        yield
        return
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def data_name(target: Path, digest: str) -> str:
    """The name of a data file is that of its content: no other file has it, and the same model gives the same bytes."""
    return f"{target.name}.{digest}.data"


def flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(file: BinaryIO, path: Path, like: Path) -> None:
    """Give a temporary file its name, and the permissions of the file ``like``."""
    with suppress(FileNotFoundError):
        os.chmod(file.name, like.stat().st_mode & 0o777)
    if not fcntl:
        file.close()  # Windows renames no open file
    os.replace(file.name, path)


def _data_of(target: Path) -> list[Path]:
    """Data files that go with a model file which is about to be replaced, and those of runs that were killed."""
    ours = re.compile(rf"{re.escape(target.name)}\.[0-9a-f]{{{DIGEST_SIZE}}}\.data")
    paths = [Path(e.path) for e in _entries(target.parent) if e.is_file(follow_symlinks=False)]
    plain = target.with_name(target.name + ".data")
    return [p for p in paths if ours.fullmatch(p.name) or (p == plain and _mentions(target, p.name))]


def _is_referred_to(path: Path) -> bool:
    """Whether any model of the folder needs a data file: a copy of the replaced model may."""
    models = (Path(e.path) for e in _entries(path.parent) if e.is_file() and Path(e.path) != path)
    return any(_mentions(model, path.name) for model in models)


def _mentions(model: Path, name: str) -> bool:
    """Whether an ONNX file holds a name; one that cannot be read might."""
    try:
        with open(model, "rb") as file:
            if file.read(1) != _FIRST_BYTE:
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(name.encode(errors="surrogateescape")) >= 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other run puts files in place in that folder meanwhile."""
    if not fcntl:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Keep a folder from other runs that ask so, until this one ends or is killed; False where another has it."""
    if not fcntl:
        yield True
        return
    descriptor, free = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # else a file system without locks
            free = not isinstance(error, BlockingIOError)
        yield free
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise OSError(errno.EAGAIN, "another program keeps the folder locked", str(folder)) from error
            time.sleep(0.005)
        except OSError:  # a file system without locks
            return
        else:
            return


def _sync(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
