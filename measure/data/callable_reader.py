"""Data from Python: ``package.module:callable``, which returns or yields dicts of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.errors import BadData
from ...graph.lazy import imported
from .readers import Arrays, Field, Reader, common_count

Make = Callable[[], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class CallableReader(Reader):
    """Dicts of arrays, one per any number of samples; the callable is called anew for each reading."""

    make: Make
    name: str

    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        held: list[Arrays] = []
        rows = 0
        for arrays in _read(self.make, self.name):
            missing = [name for name in names if name not in arrays]
            if missing:
                raise BadData(f"{self.name} yielded a dict without {', '.join(missing)}")
            held.append({name: arrays[name][None] if self.single else arrays[name] for name in names})
            rows += common_count({n: a.shape for n, a in held[-1].items()})
            while rows >= size:
                joined = _join(held, self.name)
                yield {n: a[:size] if a.ndim else a for n, a in joined.items()}
                held = [{n: a[size:] if a.ndim else a for n, a in joined.items()}]
                rows -= size
        if rows:
            yield _join(held, self.name)


def read_callable(name: str) -> Reader:
    """The reader for ``package.module:callable``. Raises BadData where it cannot be imported or yields nothing."""
    make = imported(name, BadData)
    first = next(_read(make, name), None)
    if first is None:
        raise BadData(f"{name} yields nothing")
    return CallableReader(make=make, name=name, fields={n: Field(a.shape, a.dtype) for n, a in first.items()})


def _read(make: Make, name: str) -> Iterator[Arrays]:
    """What the callable yields, as arrays. Its own errors become BadData that name it."""
    try:
        items = make()
        for item in [items] if isinstance(items, Mapping) else items:
            if not isinstance(item, Mapping):
                raise BadData(f"{name} must yield dicts of arrays, not {type(item).__name__}")
            yield {str(k): np.asarray(v) for k, v in item.items()}
    except (BadData, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # one that exits must not end the command as if all were done
        raise BadData(f"{name} failed", why=f"{type(error).__name__}: {error}") from error


def _join(pieces: list[Arrays], name: str) -> Arrays:
    first = pieces[0]
    if len(pieces) == 1:
        return first
    try:
        return {n: np.concatenate([p[n] for p in pieces]) if first[n].ndim else first[n] for n in first}
    except ValueError as error:
        raise BadData(f"{name} yields samples of different shapes", why=str(error)) from error
