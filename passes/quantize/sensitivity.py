"""What a network loses when one layer alone is rounded, to each number of bits that it may get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from ...graph.model import Model
from ..calibration.effects import Effects
from ..calibration.layers import Floats, Layer, Layers, spread_places
from ..calibration.moments import Moments, blas_threads_for, one_blas_thread
from ..calibration.stream import Batch, Inputs, Stream
from .grid import Grid, Quantized
from .rounding import ROUNDERS, Problem

Measure = Literal["outputs", "divergence", "layer"]
RIDGE = 1e-3
"""Added to second moments, relative to their mean diagonal."""
ROWS = 1 << 15
"""Rows of each layer that its moments are taken of: enough to compare numbers of bits."""


@one_blas_thread
def sensitivity(
    model: Model,
    inputs: Inputs,
    grids: Mapping[str, Sequence[Grid]],
    *,
    method: str = "gptq",
    block: Callable[[Layer], int] = lambda layer: 0,
    symmetric: bool = True,
    measure: Measure = "outputs",
    tick: Callable[[int, int | None], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Losses of each layer, by its node, for each of its grids.

    ``outputs`` is the squared error of the network's outputs relative to their variance; ``divergence`` that of the
    probabilities where outputs are scores of classes; ``layer`` the error expected of the layer's own output relative
    to its variance, which needs no run of what follows. The bias makes up for what rounding does to the mean.

    Source: ``divergence`` is that of Cai et al., "ZeroQ", CVPR 2020, arXiv:2001.00281, section 3.2. Differs: rounded by
    ``method`` instead of to nearest numbers, as the layers will be in the end.
    """
    layers = [one for one in Layers(model) if one.node in grids]
    stream = Stream(model, inputs)
    effects = Effects(model, inputs, divergence=measure == "divergence") if measure != "layer" else None
    place = {o: k for k, node in enumerate(model.graph.node) for o in node.output}
    found = {}
    for k, layer in enumerate(layers):
        stream.hold([layer.x])
        moments = Moments()
        moments.add_all(partial(_rows, layer, batch, keys, inputs.samples) for batch, keys in _batches(stream, layer))
        if effects is not None:
            effects.start_at(place[layer.node])
        losses = []
        for grid in grids[layer.node]:
            with blas_threads_for(moments.mean.shape[1]):
                problem, rounded = _rounded(model, layer, moments, grid, ROUNDERS[method], block(layer), symmetric)
            if effects is None:
                losses.append(_relative(problem, rounded))
            else:
                losses.append(effects.of(_constants(model, layer, moments, problem, rounded)))
        found[layer.node] = np.array(losses)
        stream.retain([one.x for one in layers[k + 1 :]])
        tick(k + 1, len(layers))
    return found


def _batches(stream: Stream, layer: Layer) -> Iterator[tuple[Batch, np.ndarray]]:
    yield from zip(stream.batches([layer.x]), stream.keys, strict=True)


def _rows(layer: Layer, batch: Batch, keys: np.ndarray, samples: int) -> tuple[Floats, None]:
    x = batch[layer.x]
    return layer.rows(x, spread_places(layer, x, -(-ROWS // max(1, samples)), keys)), None


def _rounded(
    model: Model,
    layer: Layer,
    moments: Moments,
    grid: Grid,
    method: Callable[[Problem], Quantized],
    block: int,
    symmetric: bool,
) -> tuple[Problem, Quantized]:
    second = moments.covariance if layer.bias is not None else moments.second
    pull = RIDGE * np.einsum("gcc->g", second) / max(1, second.shape[-1])
    damped = second + pull[:, None, None] * np.eye(second.shape[-1])
    problem = Problem(layer.matrix(model.weights[layer.weight]), grid, damped, block, symmetric)
    return problem, method(problem)


def _relative(problem: Problem, rounded: Quantized) -> float:
    """The expected squared error relative to what the layer gives."""
    power = float(problem.cost(np.zeros_like(problem.wanted)).sum())
    return float(problem.cost(rounded.floats()).sum()) / power if power > 0 else 0.0


def _constants(
    model: Model, layer: Layer, moments: Moments, problem: Problem, rounded: Quantized
) -> dict[str, np.ndarray]:
    """Weight and bias of the layer as rounded."""
    matrices = rounded.floats()
    changed = {layer.weight: layer.weight_like(matrices, model.weights[layer.weight])}
    offset = layer.offset(model)
    if layer.bias is not None and offset is not None:
        offset = offset + np.einsum("goc,gc->go", problem.wanted - matrices, moments.mean)
        changed[layer.bias] = layer.bias_like(offset, model.weights[layer.bias])
    return changed
