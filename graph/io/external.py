"""External data: tensors whose values lie in another file, mapped from strictly inside the model's folder."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from ..errors import BadModel

EMPTY = memoryview(b"")
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def map_file(path: Path) -> memoryview:
    """Map a file read-only. It is read from disk as it is used, and stays valid when the file is replaced.

    Raises:
        BadModel: it does not exist, is no regular file, or may not be read.
    """
    # Not blocking: a named pipe would otherwise wait for a writer.
    return _mapped(path, lambda: os.open(path, _FLAGS))


def map_inside(home: Path, inside: Path) -> memoryview:
    """The same for a file in a folder, on the way to which no link is followed, and which has no name elsewhere."""

    def opened() -> int:
        if os.open not in os.supports_dir_fd:  # Windows
            return os.open(home / inside, _FLAGS)
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        for part in inside.parts[:-1]:
            outer = folder
            try:
                folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
            finally:
                os.close(outer)
        try:
            descriptor = os.open(inside.name, _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        return descriptor

    return _mapped(home / inside, opened, home)


def _mapped(path: Path, opened: Callable[[], int], home: Path | None = None) -> memoryview:
    try:
        descriptor = opened()
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise BadModel(f"cannot read {path}", why=f"it is {kind}", fix="give the path of a file")
            if home is not None and status.st_nlink > _names_in(home, status):
                raise BadModel(f"{path.name} is a hard link that leads out of the model's folder")
            if status.st_size == 0:
                return EMPTY
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise BadModel(f"{path} does not exist", fix="check the path") from error
    except OSError as error:
        raise BadModel(f"cannot read {path}", why=(error.strerror or str(error)).lower()) from error


def _names_in(home: Path, status: os.stat_result) -> int:
    """How many names a file has in a folder and below; one that has a single name is not looked for."""
    if status.st_nlink <= 1:
        return status.st_nlink
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names)
    return sum(os.path.samestat(os.lstat(path), status) for path in inside if os.path.lexists(path))


class ExternalData:
    """The files that a model's tensors refer to, each mapped once."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.mapped: dict[Path, memoryview] = {}
        self._resolved: dict[str, Path] = {}

    def values(self, tensor: onnx.TensorProto, length: int) -> memoryview:
        """The ``length`` bytes that hold a tensor's values.

        Raises:
            BadModel: the reference leaves the model's folder, or the file is missing or too short.
        """
        what = f"external data of tensor {tensor.name!r} cannot be used"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if location not in self._resolved:
            self._resolved[location] = self._resolve(location, what)
        path = self._resolved[location]
        try:
            offset = int(entries.get("offset", "0"))
            stated = int(entries.get("length", str(length)))
        except ValueError as error:
            raise BadModel(what, why=f"offset or length is no number: {error}") from error
        if stated != length:
            raise BadModel(what, why=f"its shape and type need {length} bytes, the model file says {stated}")
        if path not in self.mapped:
            try:
                home = self._home()
                self.mapped[path] = map_inside(home, path.relative_to(home))
            except BadModel as error:
                fix = "keep the data file beside the model, as a file of its own; both are needed"
                raise BadModel(what, why=error.what + (f": {error.why}" if error.why else ""), fix=fix) from error
        content = self.mapped[path]
        if offset < 0 or offset + length > len(content):
            why = f"bytes {offset} to {offset + length} are asked for, {path.name} has {len(content)}"
            raise BadModel(what, why=why, fix="the data file is cut short or belongs to another model; copy it again")
        return content[offset : offset + length]

    def _resolve(self, location: str, what: str) -> Path:
        if self.folder is None:
            raise BadModel(what, why="the model was made in memory and has no folder", fix="load it from its file")
        parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if not location or "\0" in location or absolute or ".." in parts:
            raise BadModel(
                what,
                why=f"its location {location!r} is not a path inside the model's folder",
                fix="a model that points elsewhere is refused; ask whoever made it for a clean copy",
            )
        home = self._home()
        path = (home / location).resolve()
        if not path.is_relative_to(home):
            raise BadModel(
                what,
                why=f"{location!r} is a link that leads out of the model's folder",
                fix="replace the link by a copy of the file it leads to",
            )
        return path

    def _home(self) -> Path:
        assert self.folder is not None
        return self.folder.resolve()
