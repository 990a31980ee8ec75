"""Absorption of high biases: what a rectified channel never falls below goes into the bias of the layer behind it.

It makes activations' ranges smaller, above all after equalization, which scales biases too.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv:1906.04721, section 4.1.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.layer import Layer
from ....graph.model import Model
from ....graph.nodes import attribute
from ....graph.traits import Trait, has, has_any
from ...calibration.normal.moments import Floats
from ...rewrite.edit import Outcome
from .paths import Graph, Pair

_DEVIATIONS = 3.0
"""Below the mean within which a channel is taken to stay."""


@dataclass(frozen=True)
class _Target:
    """The constant that takes up a shift of a layer's output: ``sign`` times the shift over ``scale`` is added."""

    name: str
    sign: float
    scale: float = 1.0


def absorb_high_biases(model: Model) -> Outcome:
    """Move what a rectified channel never falls below from its bias into the bias of the layer behind it.

    c = max(0, beta - 3 gamma): all but one in 740 values of the channel are above it, so the rectifier lets its
    reduction through. Needs BatchNormalization; a layer that pads would find nought, not c, beyond the border.
    """
    graph = Graph(model)
    pairs, skipped = graph.pairs()
    changed, done = model.copy(), {}
    for pair in pairs:
        name = pair.first.name
        target = _takes_up(graph, pair)
        if isinstance(target, str) or pair.norm is None:
            skipped[name] = target if isinstance(target, str) else "no BatchNormalization tells its mean"
            continue
        scale, shift = (changed.weights[pair.norm.input[i]].astype(np.float64) for i in (1, 2))
        absorbed = np.maximum(0.0, shift - _DEVIATIONS * np.abs(scale))
        if not absorbed.any():
            skipped[name] = "no channel is always far above nought"
            continue
        _add(changed, pair.norm.input[2], -absorbed)
        matrix = pair.second.matrix(changed.weights[pair.second.weight])
        columns = pair.channels[pair.second.column_channels]
        gained = np.einsum("goc,gc->go", matrix, absorbed[columns]).reshape(-1)
        _add(changed, target.name, target.sign * gained / target.scale)
        done[name] = f"up to {absorbed.max():.3g} of {np.count_nonzero(absorbed)} channels' means moved on"
    return Outcome(changed if done else model, done, skipped)


def _takes_up(graph: Graph, pair: Pair) -> _Target | str:
    """Where the second layer's output is shifted, or why nothing may be moved there."""
    shifted = all(has_any(n, Trait.SHIFTS | Trait.RECTIFIES) for n in pair.path)  # as long as values are above nought
    if not shifted or not any(has(n, Trait.RECTIFIES) for n in pair.path):
        return "more than a rectifier and pooling stand between it and the layer behind it"
    second, padded = pair.second, [n for n in pair.path if any(_pool_pads(n))]
    if padded or (second.window is not None and _pads(second)):
        return f"{'pooling' if padded else second.name} pads, and would find nought beyond the border"
    if second.bias is not None and graph.index.uses[second.bias] == 1:
        return _Target(second.bias, 1.0, second.beta)
    reader = graph.sole_reader(second.output)
    if not isinstance(reader, str) and reader.op_type == "BatchNormalization" and reader.input[0] == second.output:
        mean = reader.input[3]
        if mean in graph.model.weights and graph.index.uses[mean] == 1:
            return _Target(mean, -1.0)
    return f"{second.name} has no bias of its own"


def _pool_pads(node: onnx.NodeProto) -> Iterable[int]:
    """How far a pooling operator pads; one that works out padding by itself counts as padding."""
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return [1]
    return list(attribute(node, "pads", None) or [])


def _pads(layer: Layer) -> bool:
    assert layer.window is not None
    return layer.window.pads is None or any(any(side) for side in layer.window.pads)


def _add(model: Model, name: str, more: Floats) -> None:
    value = model.weights[name]
    model.put(name, (value.astype(np.float64) + more.reshape(value.shape)).astype(value.dtype))
