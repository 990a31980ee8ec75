"""What a network loses when one layer alone is rounded, in each way that it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...graph.index import index_of
from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...measure.executors.pieces import HERE, Pieces
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
    measure: str = "outputs",
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    pieces: Pieces = HERE,
) -> dict[str, np.ndarray]:
    """Losses of each layer, by its node, for each of its rules.

    A loss is the squared error of the network's outputs relative to their variance, with ``measure`` "divergence" that of
    the probabilities of classes, with "layer" the squared error of what the layer itself makes relative to its size. The
    bias makes up for what rounding does to the mean.

    Source of the divergence: Cai et al., "ZeroQ", CVPR 2020, arXiv:2001.00281.
    """
    layers = [one for one in Layers(model) if one.node in rules]
    cache = ActivationCache(model, inputs)
    effects, place = None if measure == "layer" else Effects(model, inputs), index_of(model).place

    def visited() -> Iterator[Layer]:
        for layer in each(cache, [(layer, [layer.x]) for layer in layers]):
            if effects:
                effects.start_at(place[layer.node])
            yield layer

    def lost(layer: Layer) -> np.ndarray:
        moments = moments_of_patches(layer, cache, -(-PATCHES // max(1, inputs.samples)))
        losses = []
        wanted = layer.matrix(model.weights[layer.weight])
        hessian = damped_hessian(moments, RIDGE, centred=layer.bias is not None)
        for rule in rules[layer.node]:
            with blas_threads_for(moments.mean.shape[1]):
                matrices = rule.solve(wanted, hessian)[1].floats()
            if effects is None:
                losses.append(_own_error(wanted, matrices, hessian))
                continue
            changed = constants_with_mean(layer, model, matrices, moments.mean)
            losses.append(effects.divergence(changed) if measure == "divergence" else effects.of(changed))
        return np.array(losses)

    found: dict[str, np.ndarray] = {}
    for layer, losses in zip(layers, pieces.each(visited(), lost, len(layers)), strict=True):
        found[layer.node] = losses
        tick(len(found), len(layers))
    return found


def _own_error(wanted: Floats, made: Floats, hessian: Floats) -> float:
    """Shapes: matrices (groups, outputs, columns), second moments (groups, columns, columns)."""
    errors, whole = (float(np.einsum("goc,gcd,god->", m, hessian, m)) for m in (wanted - made, wanted))
    return errors / max(whole, 1e-30)
