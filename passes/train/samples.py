"""Samples in any order: read once, held in memory or in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...graph.errors import BadData
from ...measure.data.source import Batch, DataSource

_READ, _PRINTED = 256, 64
FEW = 2000
"""With fewer samples, training often gains nothing."""


@dataclass(frozen=True)
class Samples:
    """Arrays by input, their first axis counting samples, and ``labels`` where the data has any."""

    name: str
    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def at(self, places: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[places] for name, values in self.inputs.items()}

    def fingerprint(self) -> Iterator[bytes]:
        """What tells these samples from others: their number, and some of them."""
        some = np.linspace(0, len(self) - 1, min(len(self), _PRINTED)).astype(np.int64)
        yield f"{len(self)}".encode()
        yield from (np.ascontiguousarray(values[some]).tobytes() for values in self.inputs.values())
        if self.labels is not None:
            yield np.ascontiguousarray(self.labels).tobytes()

    def divided(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Which samples are trained on, and which are held back. Raises BadData where there are too few."""
        count = max(1, round(len(self) * fraction))
        if len(self) - count < 1:
            raise BadData(
                f"{self.name} holds {len(self)} sample{'s' if len(self) > 1 else ''}, which is too few to train on",
                why="some are held back, to tell whether training helps",
                fix=f"give more, at best {FEW:,} or more",
            )
        order = np.random.default_rng([seed, 1]).permutation(len(self))
        return np.sort(order[count:]), np.sort(order[:count])


def read_samples(source: DataSource, memory: int, folder: Path) -> Samples:
    """All samples of a source. What is more than half of ``memory`` lies in files in the folder.

    Raises BadData where samples differ in their shapes.
    """
    held = _Held(folder, memory // 2)
    for batch in source.batches(_READ):
        _require_rows(source, batch)
        held.add({**{f"input {n}": v[: batch.count] for n, v in batch.inputs.items()}, **_labels(batch)})
    arrays = held.done()
    if not arrays:
        raise BadData(f"{source.name} holds no samples")
    inputs = {name.removeprefix("input "): array for name, array in arrays.items() if name.startswith("input ")}
    return Samples(source.name, inputs, arrays.get("labels"))


def _labels(batch: Batch) -> dict[str, np.ndarray]:
    return {} if batch.labels is None else {"labels": np.asarray(batch.labels)}


def _require_rows(source: DataSource, batch: Batch) -> None:
    rows = batch.count + batch.filled
    wrong = [name for name, value in batch.inputs.items() if not value.ndim or len(value) != rows]
    if wrong:
        raise BadData(
            f"{source.name} gives {wrong[0]} no axis that counts samples",
            why="samples are taken in another order in every round",
            fix="give arrays whose first axis counts samples",
        )


class _Held:
    """Rows that are added one batch after the other, moved to files once they are many."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._parts: dict[str, list[np.ndarray]] = {}
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._rows = 0

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            shape, kind = self._shapes.setdefault(name, (array.shape[1:], array.dtype))
            if array.shape[1:] != shape:
                raise BadData(
                    f"samples differ in shape: {name} is {shape}, later {array.shape[1:]}",
                    why="one step takes many samples at once",
                    fix="bring all to one shape",
                )
            self._parts.setdefault(name, []).append(array.astype(kind, copy=False))
        self._rows += len(next(iter(arrays.values())))
        if sum(part.nbytes for parts in self._parts.values() for part in parts) > self._most:
            self._spill()

    def _spill(self) -> None:
        for k, (name, parts) in enumerate(self._parts.items()):
            path = self._files.setdefault(name, self._folder / f"samples-{k}.raw")
            with path.open("ab") as file:
                for part in parts:
                    file.write(np.ascontiguousarray(part).tobytes())
            parts.clear()

    def done(self) -> dict[str, np.ndarray]:
        if self._files:
            self._spill()
            return {
                name: np.memmap(path, self._shapes[name][1], "r", shape=(self._rows, *self._shapes[name][0]))
                for name, path in self._files.items()
            }
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}
