"""How much of each layer stays, when so much of all weights may: a registry of schemes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....graph.layer import Floats
from ....graph.registry import Registry

_FLOOR = 0.2
"""No layer keeps less than this part of the density that was asked for: so none runs empty."""
_HALVINGS = 60


@dataclass(frozen=True)
class Spread:
    """The layers' weights, as many ``shapes``, and the ``density`` of all together. ``scores`` and ``losses`` are computed when called: scores
    of each layer's weights, and of each layer what the outputs lose at each of some densities.
    """

    shapes: Sequence[tuple[int, ...]]
    density: float
    scores: Callable[[], Sequence[Floats]]
    losses: Callable[[Sequence[float]], Sequence[Floats]]

    @property
    def sizes(self) -> Floats:
        return np.array([float(np.prod(shape)) for shape in self.shapes])


Scheme = Callable[[Spread], Floats]
"""Gives the part of each layer that stays, or numbers in proportion to it."""
DENSITIES: Registry[Scheme] = Registry("density scheme", "intaglio.densities", "intaglio.passes.sparsify.densities")


def counts_of(scheme: Scheme, spread: Spread) -> list[int]:
    """Weights that stay of each layer; together as many as were asked for, none more than all or fewer than a floor."""
    sizes = spread.sizes
    total = round(spread.density * sizes.sum())
    shares = np.maximum(scheme(spread), 1e-12)
    least = np.minimum(np.maximum(1.0, np.ceil(_FLOOR * spread.density * sizes)), sizes)

    def at(level: float) -> Floats:
        return np.clip(2.0**level * shares * sizes, least, sizes)

    low, high = -64.0, 64.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() < total else (low, middle)
    exact = at(high)
    counts = np.floor(exact)
    missing = int(total - counts.sum())
    if missing > 0:
        room = np.where(counts < sizes, exact - counts, -1.0)
        counts[np.argsort(-room, kind="stable")[:missing]] += 1
    return [int(min(n, size)) for n, size in zip(counts, sizes, strict=True)]
