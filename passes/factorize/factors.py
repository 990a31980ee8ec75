"""What a weight is split into: two matrices with kernel positions between them, or three."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...graph.io.spill import spilled
from ...graph.layer import Floats, Ints

Rank = tuple[int, ...]


@dataclass(frozen=True)
class Factors:
    """``W[o, order[d, n]] = Σ_r middle[d, o, r] inner[r, n]``, with ``outer`` between *o* and the outputs if there is one.

    ``order`` says which columns of the weight's matrix *inner* sees at each position *d* that *middle* has for its own
    kernel. Shapes: inner (groups, r, n), middle (groups, d, o, r), outer (groups, outputs, o), order (d, n).
    """

    inner: Floats
    middle: Floats
    order: Ints
    outer: Floats | None = None

    @property
    def rank(self) -> Rank:
        """The widths between the factors."""
        inner = (int(self.inner.shape[1]),)
        return inner if self.outer is None else (*inner, int(self.outer.shape[2]))

    @property
    def params(self) -> int:
        return int(self.inner.size + self.middle.size + (0 if self.outer is None else self.outer.size))

    def product(self) -> Floats:
        """The weight's matrices that the factors stand for. Shapes: (groups, outputs, columns)."""
        middle = self.middle if self.outer is None else np.einsum("gok,gdkr->gdor", self.outer, self.middle)
        groups, slots, outputs, _ = middle.shape
        parts = np.matmul(middle, self.inner[:, None])
        product = np.empty((groups, outputs, self.order.size), parts.dtype)
        for d in range(slots):
            product[:, :, self.order[d]] = parts[:, d]
        return product

    def rows(self, outputs: slice) -> Factors:
        """What makes some of the outputs."""
        if self.outer is not None:
            return replace(self, outer=self.outer[:, outputs])
        return replace(self, middle=self.middle[:, :, outputs])

    def spilled(self) -> Factors:
        """The same, in files where they are large."""
        outer = None if self.outer is None else spilled(self.outer)
        return replace(self, inner=spilled(self.inner), middle=spilled(self.middle), outer=outer)

    def scaled(self, by: float) -> Factors:
        """The same with its product multiplied by a number."""
        if self.outer is not None:
            return replace(self, outer=self.outer * by)
        return replace(self, middle=self.middle * by)

    def stored(self, dtype: np.dtype) -> Factors:
        """The same as numbers of that type hold it."""
        inner, middle = (a.astype(dtype).astype(np.float64) for a in (self.inner, self.middle))
        outer = None if self.outer is None else self.outer.astype(dtype).astype(np.float64)
        return replace(self, inner=inner, middle=middle, outer=outer)

    def balanced(self) -> Factors:
        """The same product with every component as large in one factor as in the next, which suits quantizers later.

        Source: AIMET splits the singular values evenly, too.
        """
        inner, middle = _even(self.inner, self.middle)
        if self.outer is None:
            return Factors(inner, middle, self.order)
        flat = middle.transpose(0, 2, 1, 3)
        shape = flat.shape
        last, outer = _even(flat.reshape(*shape[:2], -1), self.outer[:, None])
        return Factors(inner, last.reshape(shape).transpose(0, 2, 1, 3), self.order, outer[:, 0])


def _even(inner: Floats, outer: Floats) -> tuple[Floats, Floats]:
    """Shapes: inner (groups, r, n), outer (groups, d, o, r)."""
    a = np.linalg.norm(inner, axis=2)
    b = np.sqrt(np.square(outer).sum(axis=(1, 2)))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(b / a)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    scale = scale.astype(inner.dtype, copy=False)
    return inner * scale[:, :, None], outer / scale[:, None, None, :]


def columns_by_slot(kernel: tuple[int, ...], channels: int, first: tuple[int, ...]) -> NDArray[np.int64]:
    """Columns as (positions of the second factor's kernel, columns of the first factor).

    ``first`` are the kernel axes that the first factor takes. Shapes: (d, n).
    """
    places = np.arange(int(np.prod(kernel, dtype=np.int64)) * channels).reshape(*kernel, channels)
    second = [a for a in range(len(kernel)) if a not in first]
    slots = int(np.prod([kernel[a] for a in second], dtype=np.int64))
    return np.ascontiguousarray(places.transpose(*second, *first, len(kernel))).reshape(slots, -1)
