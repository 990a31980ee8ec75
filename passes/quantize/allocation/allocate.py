"""Which layer gets how many bits, under a limit for all of them: a registry of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....graph.registry import Registry
from ...budget.solvers import Item, Solver, solve_exact, solve_greedy

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choices:
    """What one layer may get: ``bits`` with ``cost`` and ``loss`` of each; a layer that is settled has one.

    ``gram`` are the products of what the layer gives on a few samples, for methods that compare layers. Shapes: cost
    and loss (len(bits),), gram (samples, samples).
    """

    name: str
    bits: tuple[int, ...]
    cost: Floats
    loss: Floats = field(default_factory=lambda: np.zeros(0))
    gram: Floats | None = None


Allocator = Callable[[Sequence[Choices], float], Mapping[str, int]]
"""Gives each layer one of its numbers of bits so that costs sum to no more than the limit.

It needs ``losses``, ``grams``, or both: what it does not need is not computed. Calls raise TargetUnreachable where the
fewest bits cost more than the limit.
"""
ALLOCATORS: Registry[Allocator] = Registry(
    "bit allocator", "intaglio.allocators", "intaglio.passes.quantize.allocation", offers=("losses", "grams")
)


@ALLOCATORS.register("dp", needs=("losses",))
def dp(layers: Sequence[Choices], limit: float) -> dict[str, int]:
    """The least sum of losses, exactly, by dynamic programming; losses are measured with one layer rounded at a time.

    Source: Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework", CVPR 2020, arXiv:2001.00281 (losses that are
    taken to add up, under a limit of size).
    """
    return _chosen(solve_exact, layers, limit)


@ALLOCATORS.register("greedy", needs=("losses",))
def greedy(layers: Sequence[Choices], limit: float) -> dict[str, int]:
    """From most bits down, each time the step that loses least for what it saves."""
    return _chosen(solve_greedy, layers, limit)


def _chosen(solve: Solver, layers: Sequence[Choices], limit: float) -> dict[str, int]:
    items = [Item(one.cost, _falling(one)) for one in layers]
    return {one.name: one.bits[k] for one, k in zip(layers, solve(items, limit), strict=True)}


def _falling(one: Choices) -> Floats:
    """Measured losses of many bits are noise: more bits count as no worse than fewer."""
    order = np.argsort(one.bits)
    loss = np.array(one.loss, np.float64)
    loss[order] = np.minimum.accumulate(loss[order])
    return loss
