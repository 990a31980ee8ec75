"""What a network loses when one layer alone is rounded, in each way that it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...graph.index import index_of
from ...graph.layers import Layers
from ...graph.model import Model
from ..calibration.activation_cache import ActivationCache, Inputs, each
from ..calibration.effects import Effects
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..calibration.reconstruct import constants_with_mean, damped_hessian
from ..calibration.samples import moments_of_patches
from ..calibration.walk import Coarse, Rule

RIDGE = 1e-3
"""Added to second moments, relative to their mean diagonal."""
PATCHES = 1 << 15
"""Of each layer that its moments are taken of: enough to compare numbers of bits."""


@one_blas_thread
def sensitivity(
    model: Model,
    inputs: Inputs,
    rules: Mapping[str, Sequence[Rule[Coarse]]],
    *,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Losses of each layer, by its node, for each of its rules.

    A loss is the squared error of the network's outputs relative to their variance. The bias makes up for what rounding
    does to the mean.
    """
    layers = [one for one in Layers(model) if one.node in rules]
    cache = ActivationCache(model, inputs)
    effects, place = Effects(model, inputs), index_of(model).place
    found = {}
    for layer in each(cache, [(layer, [layer.x]) for layer in layers]):
        moments = moments_of_patches(layer, cache, -(-PATCHES // max(1, inputs.samples)))
        effects.start_at(place[layer.node])
        losses = []
        wanted = layer.matrix(model.weights[layer.weight])
        hessian = damped_hessian(moments, RIDGE, centred=layer.bias is not None)
        for rule in rules[layer.node]:
            with blas_threads_for(moments.mean.shape[1]):
                matrices = rule.solve(wanted, hessian)[1].floats()
            losses.append(effects.of(constants_with_mean(layer, model, matrices, moments.mean)))
        found[layer.node] = np.array(losses)
        tick(len(found), len(layers))
    return found
