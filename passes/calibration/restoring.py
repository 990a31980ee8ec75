"""Round a network's weights without data, each layer so that it makes up for what rounding took from its inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from .normal.correction import bias_correction
from .normal.moments import Normal, moments
from .normal.restore import lost_and_left, restore
from .walk import Q, Rounded, Rule, Walked, solve_plainly


@dataclass(frozen=True)
class Restored(Walked[Q]):
    """``predicted`` has, for each layer whose inputs rounding changes in a known way, the squared error of its outputs
    relative to their variance: with its own weights rounded, and with those that make up for it."""

    predicted: dict[str, tuple[float, float]] = field(default_factory=dict)


def round_restoring(model: Model, rules: Mapping[str, Rule[Q]], kept: Model) -> Restored[Q]:
    """Layer after layer by weights alone. A layer that reads what a rounded one made, BatchNormalization and a function of
    single numbers between them, takes what is lost as the best combination of what is left, and only where that is
    predicted to be nearer than rounding alone, its own rounding counted. Biases follow the means.

    Source: Bai et al., "Unified Data-Free Compression: Pruning and Quantization without Fine-Tuning", ICCV 2023,
    arXiv:2308.07209. Differs: channels are combined behind the activation, with second moments in the place of
    filters' products, as the repair of that name does with removed ones; layers that read sums of branches are rounded
    as ever.
    """
    known, outcome = moments(kept, correlated=True), Restored[Q]()
    tied = {name for name, count in Counter(one.weight for one in Layers(model)).items() if count > 1}
    done: dict[object, tuple[str, Q]] = {}
    made: dict[str, tuple[Floats, Floats]] = {}
    for layer in Layers(model):
        rule = rules.get(layer.node)
        if rule is None:
            continue
        old = model.weights[layer.weight]
        same = layer.weight, layer.axis, layer.groups, layer.alpha
        if same not in done:
            done[same] = solve_plainly(rule, layer, old)
        (method, quantized), wanted = done[same], layer.matrix(old)
        x = known.get(layer.x)
        if layer.weight not in tied and x is not None and _follows(layer, x, made):
            gram = lost_and_left(x, *made[x.origin or ""])
            better = _restored(layer, wanted, gram)
            found = rule.solve(better, None)
            errors = [_error(layer, wanted, q.floats(), gram) for q in (quantized, found[1])]
            if errors[1] < errors[0]:
                (method, quantized), wanted = found, better
            outcome.predicted[layer.node] = errors[0], min(errors)
        outcome.rounded[layer.node] = Rounded(layer, quantized, method)
        if layer.groups == 1:
            made[layer.output] = wanted[0], quantized.floats()[0]
    weights = outcome.applied(model).weights
    changed = {one.layer.weight: weights[one.layer.weight] for one in outcome.rounded.values()}
    outcome.biases.update(bias_correction(model, changed, known))
    return outcome


def _follows(layer: Layer, x: Normal, made: Mapping[str, tuple[Floats, Floats]]) -> bool:
    """Whether each input of a layer is a function of what one filter made that was rounded."""
    filters = made.get(x.origin or "")
    return layer.groups == 1 and filters is not None and layer.channels == len(filters[0]) == x.mean.size


def _taps(layer: Layer, matrix: Floats) -> Floats:
    """Shapes: (1, outputs, columns) -> (outputs, positions, inputs)."""
    return matrix.reshape(layer.outputs, layer.positions, layer.channels)


def _restored(layer: Layer, wanted: Floats, gram: Floats) -> Floats:
    lost = np.arange(len(gram)) < len(gram) // 2
    taps = _taps(layer, wanted)
    return np.asarray(taps + taps @ restore(gram, lost, ~lost).T).reshape(wanted.shape)


def _error(layer: Layer, wanted: Floats, found: Floats, gram: Floats) -> float:
    """Of what ``found`` makes of inputs that are left, as if neighbouring positions were independent: relative to the
    variance of what ``wanted`` makes of them.

    W y - V z = W (y - z) + (W - V) z, with y - z lost and z left.
    """
    w, v = _taps(layer, wanted), _taps(layer, found)
    off, all_of = np.concatenate([w, w - v], axis=2), np.concatenate([w, w], axis=2)
    return float(((off @ gram) * off).sum() / max(((all_of @ gram) * all_of).sum(), np.finfo(np.float64).tiny))
