"""What a walk made of each layer, kept in a folder as soon as it is known: a run that is ended goes on behind the last.

Files hold arrays and the names of their fields, nothing pickled. They are named after a digest of all that a layer's
answer depends on, so that those of another model, of other data or options are never read.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from ...graph.errors import UsageError
from ...graph.io.save import pieces
from ...graph.io.spill import pieces_of, spilled
from ...graph.model import Model
from ...graph.version import VERSION
from ...measure.executors.pieces import HERE, Pieces

S = TypeVar("S")
T = TypeVar("T")
_FORM = 1
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True)
class Journal:
    """Of one walk. ``key`` stands for all that its answers depend on."""

    folder: Path
    key: str

    @classmethod
    def of(
        cls, folder: Path, models: Iterable[Model], batches: Iterable[Mapping[str, np.ndarray]], *asked: Any
    ) -> Journal:
        """Of a walk over these models and inputs, with what else is ``asked`` of it.

        Raises:
            UsageError: the folder cannot be made.
        """
        digest = hashlib.sha256(f"{_FORM} {VERSION} {_versions()}".encode())
        for model in models:
            for piece in pieces(model):
                digest.update(piece)
        for value in (*({**batch} for batch in batches), asked):
            arrays: dict[str, np.ndarray] = {}
            digest.update(json.dumps(_plain(value, arrays), sort_keys=True).encode())
            for array in arrays.values():
                for part in pieces_of(array):
                    digest.update(part)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        return cls(folder, digest.hexdigest()[:16])

    def read(self, place: int | str) -> Any:
        """What was kept of a layer, or under another name; None where nothing was, or not all of it."""
        try:
            with np.load(self._path(place), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return _whole(json.loads(str(arrays.pop("meta"))), arrays)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def keep(self, place: int | str, value: Any) -> None:
        """Whole or not at all.

        Raises:
            UsageError: the disk does not allow it.
        """
        path, arrays = self._path(place), dict[str, np.ndarray]()
        meta = np.array(json.dumps(_plain(value, arrays)))
        aside = path.with_name(f".intaglio-{path.name}.{os.getpid()}.tmp")
        try:
            with aside.open("wb") as file:
                np.savez(file, meta=meta, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _unwritable(self.folder, error) from error

    def _path(self, place: int | str) -> Path:
        name = hashlib.sha256(place.encode()).hexdigest()[:16] if isinstance(place, str) else f"{place:05d}"
        return self.folder / f"{self.key}-{name}.npz"


def journal_in(
    folder: Path | None, models: Iterable[Model], batches: Iterable[Mapping[str, np.ndarray]], *asked: Any
) -> Journal | None:
    """Of a walk, where there is a folder. Raises UsageError as ``Journal.of`` does."""
    return None if folder is None else Journal.of(folder, models, batches, *asked)


def once(journal: Journal | None, place: int | str, make: Callable[[], T]) -> T:
    """What was kept there, else what is made now, which is kept. Raises UsageError as ``Journal.keep`` does."""
    found: T | None = None if journal is None else journal.read(place)
    if found is None:
        found = make()
        if journal is not None:
            journal.keep(place, found)
    return found


def each_once(
    journal: Journal | None, items: Iterable[S], make: Callable[[S], T], count: int, pieces: Pieces = HERE
) -> Iterator[T]:
    """``pieces.each``, of what was not kept. Raises UsageError as ``Journal.keep`` does."""
    if journal is None:
        yield from pieces.each(items, make, count)
        return
    known: set[int] = set()

    def made(numbered: tuple[int, S]) -> T:
        found: T | None = journal.read(numbered[0])
        if found is None:
            return make(numbered[1])
        known.add(numbered[0])
        return found

    for place, found in enumerate(pieces.each(enumerate(items), made, count)):
        if place not in known:
            journal.keep(place, found)
        yield found


def _versions() -> str:
    import onnxruntime

    return f"{np.__version__} {onnxruntime.__version__}"


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot keep what is done in {folder}", why=(error.strerror or str(error)).lower())


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON holds it, arrays under the names that stand in it. Of what has no fields its text."""
    if isinstance(value, np.ndarray | np.generic):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name, "type": value.dtype.str, "shape": list(value.shape)}
    if is_dataclass(value) and not isinstance(value, type):
        inner = {one.name: _plain(getattr(value, one.name), arrays) for one in fields(value) if one.init}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": inner}
    if isinstance(value, Mapping):
        return {"map": {str(name): _plain(value[name], arrays) for name in sorted(value)}}
    if isinstance(value, tuple | list):
        return {"tuple": [_plain(one, arrays) for one in value]}
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _whole(told: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The value again. Raises ValueError where a class is none of ours."""
    if not isinstance(told, dict):
        return told
    if "array" in told:
        return spilled(arrays[told["array"]])
    if "tuple" in told:
        return tuple(_whole(one, arrays) for one in told["tuple"])
    if "map" in told:
        return {name: _whole(one, arrays) for name, one in told["map"].items()}
    module, _, name = told["class"].partition(":")
    made = getattr(importlib.import_module(module), name, None) if module.partition(".")[0] == _OURS else None
    if not (isinstance(made, type) and is_dataclass(made)):
        raise ValueError(told["class"])
    return made(**{field: _whole(one, arrays) for field, one in told["fields"].items()})
