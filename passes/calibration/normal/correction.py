"""Biases that make up for rounded weights, by means that BatchNormalization tells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....graph.index import index_of
from ....graph.layers import Layers
from ....graph.model import Model
from ..reconstruct import constants_with_mean
from .moments import Normal


def bias_correction(
    model: Model, changed: Mapping[str, np.ndarray], known: Mapping[str, Normal]
) -> dict[str, np.ndarray]:
    """Biases that make up for what rounded weights add on average: b - (W_hat - W) E[x].

    ``model`` is the folded one, with its weights as they were; ``changed`` has its weights as they are after rounding;
    ``known`` comes from ``statistics`` of the model before folding. Layers that have no bias of their own, or of whose
    inputs nothing is known, are left out.
    """
    uses, found = index_of(model).uses, {}
    for layer in Layers(model):
        if layer.weight in changed and layer.x in known and layer.bias is not None and uses[layer.bias] == 1:
            mean, channels = known[layer.x].along(layer.x_axis)[0], layer.groups * layer.channels
            if mean.size not in (1, channels):  # what is known is of a network that does not run
                continue
            mean = np.broadcast_to(mean, (channels,))
            matrix = layer.matrix(changed[layer.weight])
            constants = constants_with_mean(layer, model, matrix, mean[layer.column_channels])
            found[layer.bias] = constants[layer.bias]
    return found
