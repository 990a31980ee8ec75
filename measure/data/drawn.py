"""Some samples of a source, drawn by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .readers import Arrays, Reader
from .source import DataSource

_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Drawn(Reader):
    """Of another reader the rows that are ``kept``, in its order; all of them are held while they are read."""

    whole: Reader
    kept: np.ndarray

    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        found, seen = list[Arrays](), 0
        for chunk in self.whole.chunks(names, _AT_ONCE):
            count = next((len(a) for a in chunk.values() if a.ndim), 1)
            rows = self.kept[(self.kept >= seen) & (self.kept < seen + count)] - seen
            found.append({name: a[rows] if a.ndim else a for name, a in chunk.items()})
            seen += count
        joined = {n: np.concatenate([f[n] for f in found]) if found[0][n].ndim else found[0][n] for n in names}
        for start in range(0, len(self.kept), size):
            yield {name: a[start : start + size] if a.ndim else a for name, a in joined.items()}


def drawn(source: DataSource, seed: int) -> DataSource:
    """As many samples as the source is limited to, of all that it has; itself where it has no more, or nobody knows."""
    count, limit = source.reader.count, source.limit
    if count is None or limit is None or limit >= count:
        return source
    kept = np.sort(np.random.default_rng(seed).permutation(count)[:limit])
    fields = {
        name: replace(one, shape=(limit, *one.shape[1:])) if one.shape else one
        for name, one in source.reader.fields.items()
    }
    reader = Drawn(fields=fields, count=limit, whole=source.reader, kept=kept, images=source.reader.images)
    return replace(source, reader=reader, limit=None)
