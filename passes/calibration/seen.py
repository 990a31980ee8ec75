"""What reaches a layer: the mean of all its patches, exactly, and some of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...graph.layer import Floats, Layer
from .patches import patches, place_count, spread_places

PATCHES = 1024
"""Of each layer that are kept."""
_EACH = 8
"""Of one sample."""
_PLACES = 1 << 14
"""Of a mean, laid out at a time: all of a picture take as many times its memory as the window has pixels."""


@dataclass
class Seen:
    """Takes what a layer reads, piece by piece. Means of a convolution are those of inputs of the first one's size."""

    layer: Layer
    _total: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)
    _kept: list[np.ndarray] = field(default_factory=list, init=False, repr=False)

    def add(self, values: np.ndarray) -> None:
        axes: tuple[int, ...] = (0,)
        if self.layer.window is None:
            axes = tuple(a for a in range(values.ndim) if a != self.layer.x_axis % values.ndim)
        total = values.sum(axis=axes)
        if not self._count or total.shape == self._total.shape:
            self._total = total.astype(np.float64) + (self._total if self._count else 0.0)
            self._count += values.size // max(1, total.size)
        kept = sum(u.shape[1] for u in self._kept)
        if kept < PATCHES:
            keys = np.arange(kept, kept + len(values))
            self._kept.append(patches(self.layer, values, spread_places(self.layer, values, _EACH, keys)))

    @property
    def patches(self) -> np.ndarray:
        """Shapes: (groups, patches, columns)."""
        return np.concatenate(self._kept, axis=1)[:, :PATCHES]

    @property
    def mean(self) -> Floats:
        """Of all patches: that of the mean input, as patches are linear in it. Shapes: (groups, columns)."""
        x = self._total / max(1, self._count)
        if self.layer.window is None:
            return x[None]
        x, count = x[None].astype(np.float64), place_count(self.layer, x[None])
        blocks = (np.arange(k, min(k + _PLACES, count))[None] for k in range(0, count, _PLACES))
        return np.asarray(sum(patches(self.layer, x, places).sum(axis=1) for places in blocks) / count)
