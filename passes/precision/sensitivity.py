"""What a network loses when one layer alone is rounded, in each way that it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from ...graph.index import index_of
from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ..calibration.activation_cache import ActivationCache, Batch, Inputs
from ..calibration.effects import Effects
from ..calibration.moments import Moments, blas_threads_for, one_blas_thread
from ..calibration.patches import patches, spread_places
from ..calibration.walk import Coarse, Rule, row_costs

Measure = Literal["outputs", "divergence", "layer"]
RIDGE = 1e-3
"""Added to second moments, relative to their mean diagonal."""
PATCHES = 1 << 15
"""Rows of each layer that its moments are taken of: enough to compare numbers of bits."""


@one_blas_thread
def sensitivity(
    model: Model,
    inputs: Inputs,
    rules: Mapping[str, Sequence[Rule[Coarse]]],
    *,
    measure: Measure = "outputs",
    tick: Callable[[int, int | None], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Losses of each layer, by its node, for each of its rules.

    ``outputs`` is the squared error of the network's outputs relative to their variance; ``divergence`` that of the
    probabilities where outputs are scores of classes; ``layer`` the error expected of the layer's own output relative
    to its variance, which needs no run of what follows. The bias makes up for what rounding does to the mean.

    Source: ``divergence`` is that of Cai et al., "ZeroQ", CVPR 2020, arXiv:2001.00281, section 3.2. Differs: rounded by
    the rules instead of to nearest numbers, as the layers will be in the end.
    """
    layers = [one for one in Layers(model) if one.node in rules]
    cache = ActivationCache(model, inputs)
    effects = Effects(model, inputs, divergence=measure == "divergence") if measure != "layer" else None
    place = index_of(model).place
    found = {}
    for k, layer in enumerate(layers):
        cache.hold([layer.x])
        moments = Moments()
        moments.add_all(partial(_rows, layer, batch, keys, inputs.samples) for batch, keys in _batches(cache, layer))
        if effects is not None:
            effects.start_at(place[layer.node])
        losses = []
        wanted, hessian = layer.matrix(model.weights[layer.weight]), _hessian(layer, moments)
        for rule in rules[layer.node]:
            with blas_threads_for(moments.mean.shape[1]):
                matrices = rule.solve(wanted, hessian)[1].floats()
            if effects is None:
                losses.append(_relative(wanted, matrices, hessian))
            else:
                losses.append(effects.of(_constants(model, layer, moments, wanted, matrices)))
        found[layer.node] = np.array(losses)
        cache.retain([one.x for one in layers[k + 1 :]])
        tick(k + 1, len(layers))
    return found


def _batches(cache: ActivationCache, layer: Layer) -> Iterator[tuple[Batch, np.ndarray]]:
    yield from zip(cache.batches([layer.x]), cache.keys, strict=True)


def _rows(layer: Layer, batch: Batch, keys: np.ndarray, samples: int) -> tuple[Floats, None]:
    x = batch[layer.x]
    return patches(layer, x, spread_places(layer, x, -(-PATCHES // max(1, samples)), keys)), None


def _hessian(layer: Layer, moments: Moments) -> Floats:
    hessian = moments.covariance if layer.bias is not None else moments.second_moment
    pull = RIDGE * np.einsum("gcc->g", hessian) / max(1, hessian.shape[-1])
    return np.asarray(hessian + pull[:, None, None] * np.eye(hessian.shape[-1]))


def _relative(wanted: Floats, matrices: Floats, hessian: Floats) -> float:
    """The expected squared error relative to what the layer gives."""
    power = float(row_costs(wanted, hessian).sum())
    return float(row_costs(matrices - wanted, hessian).sum()) / power if power > 0 else 0.0


def _constants(model: Model, layer: Layer, moments: Moments, wanted: Floats, matrices: Floats) -> dict[str, np.ndarray]:
    """Weight and bias of the layer as rounded."""
    changed = {layer.weight: layer.weight_like(matrices, model.weights[layer.weight])}
    offset = layer.offset(model)
    if layer.bias is not None and offset is not None:
        offset = offset + np.einsum("goc,gc->go", wanted - matrices, moments.mean)
        changed[layer.bias] = layer.bias_like(offset, model.weights[layer.bias])
    return changed
