"""Tiny layers that hurt most keep more bits: seen without labels or data, by the noise that rounding makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...graph.layer import Floats

_ROOM = 0.1
"""Bytes that may be spent on it, as a part of what all weights take when they are rounded."""
_HARMFUL = 0.02
"""Least noise beside signal of a layer that is kept: what 4 bits leave is below it."""


@dataclass(frozen=True)
class Harm:
    """``error`` is the noise beside the signal that a layer's rounded weights make, for inputs that are independent and
    alike. ``small`` and ``large`` are the bytes of its weights, rounded and kept.
    """

    name: str
    error: float
    small: float
    large: float

    @property
    def rate(self) -> float:
        return self.error / max(self.large - self.small, 1.0)


def relative(matrices: Floats, near: Floats) -> float:
    """The squared error relative to the squares; 0 of weights that are all 0."""
    power = float(np.square(matrices).sum())
    return float(np.square(near - matrices).sum()) / power if power > 0 else 0.0


def protected(layers: Mapping[str, Harm]) -> set[str]:
    """Those to keep: the most noise for the bytes first, as long as there is room. All together make no more than half
    of the layers: what is ruined as a whole is to be seen.
    """
    room = _ROOM * sum(one.small for one in layers.values())
    found: set[str] = set()
    for key, one in sorted(layers.items(), key=lambda item: -item[1].rate):
        spent = one.large - one.small
        if spent <= room and one.error >= _HARMFUL and 2 * len(found) + 2 <= len(layers):
            room -= spent
            found.add(key)
    return found


def sentence(layers: Mapping[str, Harm], kept: set[str], form: str) -> str:
    """What is kept and why."""
    chosen = [layers[key] for key in layers if key in kept]
    noise = sum(one.error for one in chosen) / sum(one.error for one in layers.values())
    share = sum(one.small for one in chosen) / sum(one.small for one in layers.values())
    names = ", ".join(one.name for one in chosen)
    return (
        f"tiny layers keep {form}, as rounding them makes {noise:.0%} of the noise of all weights and they hold "
        f"{share:.1%} of the bytes: {names}; --no-protect rounds them, too"
    )
