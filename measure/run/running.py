"""Running batches of data through a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.errors import BadModel
from ..data.source import Batch, DataSource
from .session import run

Tick = Callable[[int, int | None], None]
"""Called with samples done and in all (None if unknown): what a progress bar wants."""


def run_batches(
    session: Any, source: DataSource, *, batch: int = 64, tick: Tick | None = None
) -> Iterator[tuple[Batch, dict[str, Any]]]:
    """Each batch and the outputs for its real samples.

    Raises:
        BadModel: the model fails.
        BadData: the data cannot be read or does not fit.
    """
    done = 0
    for piece in source.batches(batch):
        yield piece, run_batch(session, piece)
        done += piece.count
        if tick:
            tick(done, source.samples)


def run_batch(session: Any, piece: Batch, outputs: Sequence[str] | None = None) -> dict[str, Any]:
    """Run once; rows that only filled up the batch are dropped. Raises BadModel where the model fails."""
    return real_rows(run(session, piece.inputs, outputs), piece)


def real_rows(values: Mapping[str, Any], piece: Batch) -> dict[str, Any]:
    """Without the rows that only filled up the batch, where samples are rows."""
    rows, found = (piece.count + piece.filled,), dict(values)
    if piece.filled:
        found |= {n: v[: piece.count] for n, v in found.items() if isinstance(v, np.ndarray) and v.shape[:1] == rows}
    return found


def check_rows(name: str, value: np.ndarray, count: int) -> None:
    """Raise BadModel unless there is one row for each sample."""
    if value.shape[:1] != (count,):
        raise BadModel(
            f"output {name!r} has shape {value.shape} for {count} samples",
            why="the model does not keep samples apart, as when it was exported for one",
            fix="run it on one sample at a time: intaglio evaluate MODEL --batch 1",
        )
