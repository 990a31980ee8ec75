"""Joint first and second moments of a layer's rows and of what it should make of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


@dataclass
class Moments:
    """Running sums of rows ``u`` and targets ``t``; any number of groups side by side.

    Rows are multiplied in their own precision a batch at a time, shifted by the first batch's means so that large means
    cost no digits, and summed over batches in float64: results depend on how the rows are cut into batches only in the
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
    _rows_known: bool = False

    def add(self, u: Floats, t: Floats | None = None) -> None:
        """Take in a batch. Shapes: u (groups, rows, columns), t (groups, rows, outputs)."""
        if self._shift_u is None:
            self._begin(u)
        assert self._shift_u is not None
        u = u - self._shift_u
        if not self._rows_known:
            self.count += u.shape[1]
            self._u += u.sum(axis=1, dtype=np.float64)
            for g in range(len(u)):  # a product of one array with itself costs half: no batched form has it
                self._uu[g] += u[g].T @ u[g]
        if t is not None:
            if self._shift_t is None:
                self._begin_targets(t, u.shape[2])
            assert self._shift_t is not None
            t = t - self._shift_t
            self._t += t.sum(axis=1, dtype=np.float64)
            self._tt += np.square(t).sum(axis=1, dtype=np.float64)
            self._tu += np.matmul(t.transpose(0, 2, 1), u)

    def other_targets(self) -> Moments:
        """To be given the same rows again with other targets: what is known of the rows is not summed anew."""
        return Moments(self.count, self._shift_u, _u=self._u, _uu=self._uu, _rows_known=True)

    def _begin(self, u: Floats) -> None:
        groups, _, columns = u.shape
        self._shift_u = u.mean(axis=1, keepdims=True)
        self._u, self._uu = np.zeros((groups, columns)), np.zeros((groups, columns, columns))

    def _begin_targets(self, t: Floats, columns: int) -> None:
        groups, _, outputs = t.shape
        self._shift_t = t.mean(axis=1, keepdims=True)
        self._t, self._tt = np.zeros((groups, outputs)), np.zeros((groups, outputs))
        self._tu = np.zeros((groups, outputs, columns))

    def only(self, columns: Floats) -> Moments:
        """Of one group's rows some columns, without targets. Shapes: columns (columns,) boolean."""
        assert self._shift_u is not None
        assert len(self._u) == 1
        (kept,) = np.nonzero(columns)
        return Moments(
            self.count,
            self._shift_u[:, :, kept],
            _u=self._u[:, kept],
            _uu=self._uu[:, kept[:, None], kept],
            _rows_known=True,
        )

    @property
    def mean(self) -> Floats:
        """Mean row. Shapes: (groups, columns)."""
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
        """Centred second moments of the rows. Shapes: (groups, columns, columns)."""
        mean = self._u / self.count
        return np.asarray(self._uu / self.count - mean[:, :, None] * mean[:, None, :])

    @property
    def second(self) -> Floats:
        """Second moments of the rows about zero. Shapes: (groups, columns, columns)."""
        mean = self.mean
        return np.asarray(self.covariance + mean[:, :, None] * mean[:, None, :])

    @property
    def cross(self) -> Floats:
        """Centred moments of targets with rows. Shapes: (groups, outputs, columns)."""
        return np.asarray(
            self._tu / self.count - (self._t / self.count)[:, :, None] * (self._u / self.count)[:, None, :]
        )
