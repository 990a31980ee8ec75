"""Where the numbers of a tensor lie: in which buffer, from where on, and how far apart along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
Dims = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """``strides`` and ``offset`` count elements."""

    buffer: str
    dtype: np.dtype
    dims: Dims
    strides: Dims
    offset: int = 0

    @property
    def ctype(self) -> str:
        return C_TYPES[self.dtype.name]

    @property
    def size(self) -> int:
        return prod(self.dims)

    @property
    def order(self) -> Dims:
        """Axes from the one whose neighbours lie furthest apart to the nearest."""
        return tuple(sorted(range(len(self.dims)), key=lambda a: (-self.strides[a], a)))

    def stride(self, axis: int) -> int:
        """0 along an axis of one, and of a single number: nothing has to be told apart."""
        return self.strides[axis] if self.dims and self.dims[axis] != 1 else 0

    def is_dense(self, order: Sequence[int] | None = None) -> bool:
        """Whether its numbers lie one after the other, with ``order`` in this order of axes."""
        wanted = dense_strides(self.dims, self.order if order is None else order)
        return all(d == 1 or a == b for d, a, b in zip(self.dims, self.strides, wanted, strict=True))

    def positions(self) -> np.ndarray:
        """Of each number its place in the buffer. Shapes: ``dims``."""
        grid = np.full(self.dims, self.offset, np.int64)
        for axis, (length, stride) in enumerate(zip(self.dims, self.strides, strict=True)):
            grid += (np.arange(length) * stride).reshape([-1 if a == axis else 1 for a in range(len(self.dims))])
        return grid

    def view(self, positions: np.ndarray) -> Tensor | None:
        """The tensor whose numbers lie at such places of this one's buffer, if even steps lead to them."""
        if positions.size == 0:
            return None
        first = int(positions.flat[0])
        along = [int(np.take(positions, min(1, n - 1), axis=a).flat[0]) - first for a, n in enumerate(positions.shape)]
        made = Tensor(self.buffer, self.dtype, positions.shape, tuple(along), first)
        return made if np.array_equal(made.positions(), positions) else None

    def broadcast(self, dims: Dims) -> Tensor:
        """Stretched as NumPy stretches."""
        lead = len(dims) - len(self.dims)
        own = [0] * lead + [self.stride(a) for a in range(len(self.dims))]
        return replace(self, dims=dims, strides=tuple(own))


def dense_strides(dims: Dims, order: Sequence[int]) -> Dims:
    """Strides of a tensor whose numbers lie one after the other, the last axis of ``order`` the fastest."""
    strides = [0] * len(dims)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= dims[axis]
    return tuple(strides)
