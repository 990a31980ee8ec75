"""What a network takes: shapes, kinds of values, and random ones to feed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rng = np.random.Generator

SIZES = {"batch": 2, "sequence": 10, "height": 8, "width": 6}
"""What a dynamic dimension is while a network is exported, and by default when it is fed."""


@dataclass(frozen=True)
class Input:
    """One graph input. A dimension given by name is dynamic."""

    shape: tuple[int | str, ...]
    kind: str
    dtype: str = "float32"
    high: int = 0

    def sized(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with numbers for its dynamic dimensions."""
        return tuple(d if isinstance(d, int) else {**SIZES, **sizes}[d] for d in self.shape)

    def draw(self, rng: Rng, sizes: Mapping[str, int]) -> Array:
        """Random values that the network accepts."""
        return KINDS[self.kind](self, rng, self.sized(sizes)).astype(self.dtype)


def floats(*shape: int | str, dtype: str = "float32") -> Input:
    """Standard normal numbers."""
    return Input(shape, "floats", dtype)


def positives(*shape: int | str) -> Input:
    """Numbers in [0.1, 1): for what is divided by, rooted or logged."""
    return Input(shape, "positives")


def tokens(*shape: int | str, vocabulary: int) -> Input:
    """Whole numbers in [0, vocabulary)."""
    return Input(shape, "tokens", "int64", vocabulary)


def mask(*shape: int | str, dtype: str = "bool") -> Input:
    """True for at least the first half of the last axis, so that no softmax sees only masked entries."""
    return Input(shape, "mask", dtype)


def adjacency(*shape: int | str) -> Input:
    """A graph without isolated nodes: symmetric 0/1 with self-loops."""
    return Input(shape, "adjacency")


def _mask(spec: Input, rng: Rng, shape: tuple[int, ...]) -> Array:
    length = shape[-1]
    kept = rng.integers((length + 1) // 2, length + 1, size=(*shape[:-1], 1))
    return np.asarray(np.arange(length) < kept)


def _adjacency(spec: Input, rng: Rng, shape: tuple[int, ...]) -> Array:
    edges = rng.random(shape) < 0.3
    return np.asarray(edges | np.swapaxes(edges, -1, -2) | np.eye(shape[-1], dtype=bool))


KINDS: dict[str, Callable[[Input, Rng, tuple[int, ...]], Array]] = {
    "floats": lambda spec, rng, shape: np.asarray(rng.standard_normal(shape)),
    "positives": lambda spec, rng, shape: np.asarray(rng.uniform(0.1, 1.0, shape)),
    "tokens": lambda spec, rng, shape: np.asarray(rng.integers(0, spec.high, shape)),
    "mask": _mask,
    "adjacency": _adjacency,
}
