"""Running a whole data source through a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..graph.errors import BadModel
from .data import Batch, DataSource
from .session import run

Tick = Callable[[int, int | None], None]
"""Called with samples done and in all (None if unknown): what a progress bar wants."""


def run_batches(
    session: Any, source: DataSource, *, batch: int = 64, tick: Tick | None = None
) -> Iterator[tuple[Batch, dict[str, Any]]]:
    """Each batch and the outputs for its real samples.

    Raises:
        BadModel: the model fails, or gives another number of rows than it got samples.
        BadData: the data cannot be read or does not fit.
    """
    done = 0
    for piece in source.batches(batch):
        outputs = run(session, piece.inputs)
        yield piece, {name: _cut(name, value, piece, source) for name, value in outputs.items()}
        done += piece.count
        if tick:
            tick(done, source.samples)


def _cut(name: str, value: Any, piece: Batch, source: DataSource) -> Any:
    """Drop the rows that only filled up the batch."""
    filled = source.fixed_batch if source.fixed_batch and piece.count < source.fixed_batch else None
    if filled and isinstance(value, np.ndarray) and value.shape[:1] == (filled,):
        return value[: piece.count]
    return value


def check_rows(name: str, value: np.ndarray, count: int) -> None:
    """Raise BadModel unless there is one row for each sample."""
    if value.shape[:1] != (count,):
        raise BadModel(
            f"output {name!r} has shape {value.shape} for {count} samples",
            why="the model does not keep samples apart, as when it was exported for one",
            fix="try --batch 1",
        )
