"""A bit allocator: the same number of bits for every layer, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.graph.errors import TargetUnreachable
from intaglio.passes.quantize.allocation.allocate import ALLOCATORS, Choices


@ALLOCATORS.register("even")
def even(layers: Sequence[Choices], limit: float) -> dict[str, int]:
    """All layers alike; no loss is measured."""
    for bits in sorted(set.intersection(*(set(one.bits) for one in layers)), reverse=True):
        if sum(float(one.cost[one.bits.index(bits)]) for one in layers) <= limit:
            return {one.name: bits for one in layers}
    raise TargetUnreachable("the fewest bits cost more than the limit")
