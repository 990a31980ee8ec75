"""Optimal brain surgeon for channels: remove one after the other what costs its readers least, given what is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_COMPACT = 0.75
"""Matrices are cut down when so much of them is left."""


@dataclass
class Reader:
    """One matrix that reads the channels: ``y = weight @ u``.

    Shapes: weight (outputs, columns), inverse (columns, columns): of the (damped) second moments of ``u``;
    channel (columns,): which channel each column goes with, -1 for none; worth (outputs,): what an output's squared
    error counts, 1 unless given.
    """

    weight: Floats
    inverse: Floats
    channel: Ints
    worth: Floats | float = 1.0


@dataclass(frozen=True)
class Elimination:
    """``order``: channels, the first to go first. ``losses[k]``: what the readers have lost after ``k`` of them."""

    order: Ints
    losses: Floats


def eliminate(
    readers: Sequence[Reader],
    channels: int,
    *,
    down_to: int = 0,
    steps: int = 128,
    stops: Iterable[int] = (),
    watch: Callable[[int, list[Floats]], None] | None = None,
    at: Collection[int] | None = None,
) -> Elimination:
    """Remove channels until ``down_to`` are left; the others' weights take over what they can.

    Removing the columns P costs ``tr(W_P ([H^-1]_PP)^-1 W_P')`` and leaves ``W - W_P ([H^-1]_PP)^-1 [H^-1]_P:`` and
    ``H^-1 - [H^-1]_:P ([H^-1]_PP)^-1 [H^-1]_P:``: exact downdates, the same as a least squares fit of what stays. With more than
    ``steps`` channels several go in one step, which never runs over one of the ``stops``. ``watch`` is called after each step, or
    only ``at`` some numbers gone, with the number gone and the readers' weights at full width, zero where columns went.

    Source: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992; for
    coupled channels Wang et al., "Structurally Prune Anything", 2024, arXiv:2403.18955 (OBSPA).
    Differs: blocks of columns, all readers of a channel summed, scores computed anew after every step.
    """
    states = [_State(reader) for reader in readers]
    alive = np.ones(channels, dtype=bool)
    at_once, halts = -(-channels // steps), sorted(stops)
    order: list[int] = []
    losses = [0.0]
    while alive.sum() > down_to:
        candidates = np.flatnonzero(alive)
        scores = np.sum([s.losses(candidates) for s in states], axis=0) if states else np.zeros(len(candidates))
        next_stop = min((s for s in halts if s > len(order)), default=channels)
        count = min(at_once, int(alive.sum()) - down_to, next_stop - len(order))
        gone = candidates[np.argsort(scores, kind="stable")[:count]]
        lost = sum(state.remove(gone) for state in states)
        alive[gone] = False
        losses += [losses[-1] + lost * (k + 1) / count for k in range(count)]
        order += gone.tolist()
        if watch is not None and (at is None or len(order) in at):
            watch(len(order), [s.weight for s in states])
    return Elimination(np.array(order, dtype=np.int64), np.array(losses))


class _State:
    """A reader while channels go; what has gone is cut out from time to time."""

    def __init__(self, reader: Reader) -> None:
        self._rows = np.array(
            reader.weight.T, dtype=np.float64, order="C"
        )  # of each column what all outputs make of it
        self._inverse = np.array(reader.inverse, dtype=np.float64, order="C")
        self._channel = reader.channel.copy()
        self._worth = np.array(np.broadcast_to(reader.worth, len(reader.weight)), dtype=np.float64)
        self._columns = np.arange(len(reader.channel))
        self._shape = reader.weight.shape

    @property
    def weight(self) -> Floats:
        """Shapes: (outputs, columns) as at the beginning."""
        full = np.zeros(self._shape)
        full[:, self._columns] = self._rows.T
        return full

    def losses(self, channels: Ints) -> Floats:
        """What removing each of the channels alone would cost. Shapes: (channels,)."""
        table, there = self._table(channels)
        if not table.shape[1]:
            return np.zeros(len(channels))
        both = there[:, :, None] & there[:, None, :]
        blocks = np.where(both, self._inverse[table[:, :, None], table[:, None, :]], 0.0)
        blocks += np.eye(table.shape[1]) * ~there[:, :, None]
        mine = self._rows[table]  # channels, columns of each, outputs
        products = np.where(both, np.matmul(mine * self._worth, mine.transpose(0, 2, 1)), 0.0)
        return np.asarray(np.linalg.solve(blocks, products).trace(axis1=1, axis2=2))

    def remove(self, channels: Ints) -> float:
        """Remove them together. Returns the cost."""
        gone = np.flatnonzero(np.isin(self._channel, channels))
        if not len(gone):
            return 0.0
        mine, across = self._rows[gone], self._inverse[gone]
        solved = np.linalg.solve(across[:, gone], across)  # ([H^-1]_PP)^-1 [H^-1]_P:
        half = np.linalg.solve(across[:, gone], mine)
        lost = float((mine * half).sum(axis=0) @ self._worth)
        self._rows = _less(self._rows, solved, mine)
        self._inverse = _less(self._inverse, solved, across)
        self._rows[gone] = 0
        self._channel[gone] = -2
        # a dead column keeps a unit block of its own, so that later inverses exist
        self._inverse[gone], self._inverse[:, gone] = 0, 0
        self._inverse[gone, gone] = 1
        left = self._channel > -2
        if left.sum() < _COMPACT * len(left):
            self._rows, self._inverse = self._rows[left], self._inverse[np.ix_(left, left)]
            self._channel, self._columns = self._channel[left], self._columns[left]
        return lost

    def _table(self, channels: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Columns of each channel, padded to one length, and which of them are real."""
        order = np.argsort(self._channel, kind="stable")
        ordered = self._channel[order]
        first = np.searchsorted(ordered, channels, side="left")
        lengths = np.searchsorted(ordered, channels, side="right") - first
        span = np.arange(int(lengths.max(initial=0)))
        there = span[None] < lengths[:, None]
        table = order[np.minimum(first[:, None] + span[None], len(order) - 1)]
        return table, there


def _less(matrix: Floats, left: NDArray[Any], right: Floats) -> Floats:
    """``matrix - left' @ right``, written over the matrix: wide ones are not worth a second copy for every step.

    BLAS counts along columns, so it is given the transposed of everything, which are the same arrays.
    """
    return np.asarray(
        scipy.linalg.blas.dgemm(-1.0, right.T, left.T, beta=1.0, c=matrix.T, trans_b=True, overwrite_c=True).T
    )
