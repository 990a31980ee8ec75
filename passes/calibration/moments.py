"""Joint first and second moments of a layer's patches and of what it should make of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from ...graph.layer import Floats

Piece = Callable[[], tuple[Floats, "Floats | None"]]
Sums = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])
_WIDE = 1024
WORKERS = 2
"""Threads that make and multiply patches while the network runs in another."""


def one_blas_thread(function: F) -> F:
    """Decorates functions in which several matrix products are under way at once: each then runs in one thread.

    BLAS threads that wait for each other on cores that others use can take ten times as long as one thread.
    """
    wrapped: F = threadpool_limits.wrap(limits=1, user_api="blas")(function)
    return wrapped


@contextmanager
def blas_threads_for(size: int) -> Iterator[None]:
    """Inside ``one_blas_thread``: all cores again for matrices so wide that sharing them out pays even on busy ones."""
    limit = os.cpu_count() if size >= _WIDE else 1
    with threadpool_limits(limits=limit, user_api="blas"):
        yield


@dataclass
class Moments:
    """Running sums of patches ``u`` and targets ``t``; any number of groups side by side.

    Patches are multiplied in their own precision a batch at a time, shifted by the first batch's means so that large means
    cost no digits, and summed over batches in float64: results depend on how the patches are cut into batches only in the
    last digits of that precision.
    """

    count: int = 0
    _shift_u: Floats | None = field(default=None, repr=False)
    _shift_t: Floats | None = field(default=None, repr=False)
    _u: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    _t: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    _uu: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    _tu: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    _tt: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    _patches_known: bool = False
    solvers: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What was computed of the patches' moments for a fit, for the next fit of the same patches."""

    def add(self, u: Floats, t: Floats | None = None) -> None:
        """Take in a batch. Shapes: u (groups, patches, columns), t (groups, patches, outputs)."""
        self._begin(u, t)
        self._merge(self._sums(u - self._shift_u, None if t is None else t - self._shift_t))

    def add_all(self, pieces: Iterator[Piece], workers: int = WORKERS) -> None:
        """Take in batches that functions give, made and summed by some threads, added in order whatever the threads do.

        The arrays are used up: functions give copies of what others still need.
        """
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Sums]] = deque()
            for piece in pieces:
                if self._shift_u is None or self._shift_t is None:  # the first batch says where sums are shifted to
                    u, t = piece()
                    self.add(u, t)
                    continue
                waiting.append(pool.submit(self._work, piece))
                if len(waiting) >= workers:
                    self._merge(waiting.popleft().result())
            while waiting:
                self._merge(waiting.popleft().result())

    def _work(self, piece: Piece) -> Sums:
        u, t = piece()
        u -= self._shift_u
        if t is not None:
            t -= self._shift_t
        return self._sums(u, t)

    def _sums(self, u: Floats, t: Floats | None) -> Sums:
        """What a batch, shifted, adds to the running sums."""
        found: Sums = {"count": u.shape[1]}
        if not self._patches_known:
            found["u"] = u.sum(axis=1, dtype=np.float64)
            # a product of one array with itself costs half, but only one at a time
            found["uu"] = [patches.T @ patches for patches in u]
        if t is not None:
            found["t"], found["tt"] = t.sum(axis=1, dtype=np.float64), np.square(t).sum(axis=1, dtype=np.float64)
            found["tu"] = np.matmul(t.transpose(0, 2, 1), u)
        return found

    def _merge(self, sums: Sums) -> None:
        if not self._patches_known:
            self.count += sums["count"]
            self._u += sums["u"]
            for known, more in zip(self._uu, sums["uu"], strict=True):
                known += more
        if "t" in sums:
            self._t += sums["t"]
            self._tt += sums["tt"]
            self._tu += sums["tu"]

    def other_targets(self) -> Moments:
        """To be given the same patches again with other targets: what is known of the patches is not summed anew."""
        return Moments(self.count, self._shift_u, _u=self._u, _uu=self._uu, _patches_known=True, solvers=self.solvers)

    def _begin(self, u: Floats, t: Floats | None) -> None:
        """Set up sums when the first batch shows their shapes."""
        groups, _, columns = u.shape
        if self._shift_u is None:
            self._shift_u = u.mean(axis=1, keepdims=True)
            self._u, self._uu = np.zeros((groups, columns)), np.zeros((groups, columns, columns))
        if t is not None and self._shift_t is None:
            self._shift_t = t.mean(axis=1, keepdims=True)
            self._t, self._tt = np.zeros((groups, t.shape[2])), np.zeros((groups, t.shape[2]))
            self._tu = np.zeros((groups, t.shape[2], columns))

    def only(self, columns: Floats) -> Moments:
        """Some columns of one group's patches, with the same targets. Shapes: columns (columns,) boolean."""
        assert self._shift_u is not None
        assert len(self._u) == 1
        (kept,) = np.nonzero(columns)
        return Moments(
            self.count,
            self._shift_u[:, :, kept],
            self._shift_t,
            _u=self._u[:, kept],
            _uu=self._uu[:, kept[:, None], kept],
            _t=self._t,
            _tt=self._tt,
            _tu=self._tu[:, :, kept] if self._shift_t is not None else self._tu,
            _patches_known=True,
        )

    @property
    def mean(self) -> Floats:
        """Mean patch. Shapes: (groups, columns)."""
        assert self._shift_u is not None
        return np.asarray(self._shift_u[:, 0] + self._u / self.count)

    @property
    def target_mean(self) -> Floats:
        """Mean target. Shapes: (groups, outputs)."""
        assert self._shift_t is not None
        return np.asarray(self._shift_t[:, 0] + self._t / self.count)

    @property
    def target_variance(self) -> Floats:
        """Variance of each target. Shapes: (groups, outputs)."""
        return np.asarray(self._tt / self.count - np.square(self._t / self.count))

    @property
    def covariance(self) -> Floats:
        """Centred second moments of the patches. Shapes: (groups, columns, columns)."""
        mean = self._u / self.count
        return np.asarray(self._uu / self.count - mean[:, :, None] * mean[:, None, :])

    @property
    def second_moment(self) -> Floats:
        """Second moments of the patches about zero. Shapes: (groups, columns, columns)."""
        mean = self.mean
        return np.asarray(self.covariance + mean[:, :, None] * mean[:, None, :])

    def hessian(self, *, centred: bool) -> Floats:
        """Of a layer's squared error by its weights, halved: ``centred`` for layers whose bias makes means right."""
        return self.covariance if centred else self.second_moment

    def normal_equations(self, *, centred: bool) -> tuple[Floats, Floats]:
        """H and R of the least squares problem ``W H = R``. Shapes: (groups, columns, columns), (groups, outputs, columns)."""
        r = self.cross if centred else self.cross + self.target_mean[:, :, None] * self.mean[:, None, :]
        return self.hessian(centred=centred), r

    @property
    def cross(self) -> Floats:
        """Centred moments of targets with patches. Shapes: (groups, outputs, columns)."""
        return np.asarray(
            self._tu / self.count - (self._t / self.count)[:, :, None] * (self._u / self.count)[:, None, :]
        )
