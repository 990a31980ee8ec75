"""Mixed precision: each layer gets its own number of bits, so that all together cost no more than a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ...calibration.activation_cache import ActivationCache, Inputs
from ...precision.grid import Grid
from ...precision.sensitivity import sensitivity
from ..allocation.allocate import ALLOCATORS, Choices
from ..allocation.ompq import SAMPLES, grams
from ..rounding.rounding import Spec

Cost = Callable[[Layer, Grid], float]
"""Of a layer whose weight has this shape."""


def weight_bits(layer: Layer, grid: Grid) -> float:
    """Bits of all weights: for a limit on the average number of bits, which counts no scales."""
    return float(np.prod(layer.shape)) * grid.bits


def mix_grids(
    model: Model,
    inputs: Inputs,
    grids: Mapping[str, Sequence[Grid]],
    limit: float,
    *,
    name: str = "dp",
    price: Cost = weight_bits,
    block: Callable[[Layer], int] = lambda layer: 0,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
) -> dict[str, Grid]:
    """One of its grids for each layer, by the layers' nodes; layers that are settled have one grid to choose from.

    Raises:
        TargetUnreachable: the cheapest grids cost more than the limit.
    """
    chosen, needs = ALLOCATORS[name], ALLOCATORS.entry(name).needs
    layers = [one for one in Layers(model) if one.node in grids]
    rules = {
        one.node: [Spec(grid, ("gptq",), block(one)) for grid in grids[one.node]]
        for one in layers
        if len(grids[one.node]) > 1
    }
    losses = sensitivity(model, inputs, rules, tick=tick) if "losses" in needs else {}
    products: dict[str, np.ndarray] = {}
    if "grams" in needs:
        cache = ActivationCache(model, inputs.first(SAMPLES))
        products = {one.node: gram for one, gram in zip(layers, grams(cache, layers), strict=True)}
    choices = [
        Choices(
            one.node,
            tuple(grid.bits for grid in grids[one.node]),
            np.array([price(one, grid) for grid in grids[one.node]]),
            losses.get(one.node, np.zeros(len(grids[one.node]))),
            products.get(one.node),
        )
        for one in layers
    ]
    bits = chosen(choices, limit)
    return {one.node: next(g for g in grids[one.node] if g.bits == bits[one.node]) for one in layers}
