"""A layer whose weights are signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bits import Bits
from .dots import Dot, Window
from .weights import Signs


@dataclass(frozen=True)
class Layer:
    """A layer whose weights are signs. ``bits`` is its input as bits; where that is None, ``reason`` says why."""

    dot: Dot
    signs: Signs
    bits: Bits | None
    reason: str = ""

    @property
    def window(self) -> Window | None:
        """Where it looks, explicit padding of its input included."""
        found = self.dot.window
        if found is None or self.bits is None or self.bits.border is None:
            return found
        return found.padded(self.bits.begins, self.bits.ends)

    @property
    def border(self) -> float:
        """The sign that surrounds the input: -1, 0 or 1."""
        if self.bits is None or self.window is None or not any(self.window.pads):
            return 0.0
        value = self.bits.border if self.bits.border is not None else 0.0
        return self.bits.as_sign(value) or 0.0

    @property
    def scale(self) -> np.ndarray:
        """What the sum of products of signs is multiplied with. Shapes: (outputs,)."""
        half = self.bits.half if self.bits else 1.0
        return self.signs.scale * self.dot.factor * half

    @property
    def bias(self) -> np.ndarray:
        """What is added then: the bias, and what signs that are not symmetric to 0 give. Shapes: (outputs,)."""
        middle = self.bits.middle if self.bits else 0.0
        sums = self.signs.signs.sum(axis=1, dtype=np.int64)
        return self.dot.bias + middle * self.signs.scale * self.dot.factor * sums
