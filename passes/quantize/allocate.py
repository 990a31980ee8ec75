"""Which layer gets how many bits, under a limit for all of them: a registry of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...graph.registry import Registry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choices:
    """What one layer may get: ``bits`` with ``cost`` and ``loss`` of each; a layer that is settled has one.

    ``feature`` is what the layer gives on a few samples, for methods that compare layers. Shapes: cost and loss
    (len(bits),), feature (samples, values).
    """

    name: str
    bits: tuple[int, ...]
    cost: Floats
    loss: Floats = field(default_factory=lambda: np.zeros(0))
    feature: Floats | None = None


class Allocator(Protocol):
    """Gives each layer one of its numbers of bits so that costs sum to no more than the limit.

    Raises TargetUnreachable where the fewest bits cost more.
    """

    def __call__(self, layers: Sequence[Choices], limit: float, /) -> Mapping[str, int]: ...


ALLOCATORS: Registry[Allocator] = Registry("bit allocator", "intaglio.allocators")
