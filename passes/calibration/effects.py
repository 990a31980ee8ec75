"""What a change of some layers does to the outputs of the whole network, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.layer import Floats
from ...graph.model import Model
from ...graph.traits import Trait, has_any
from .activation_cache import ActivationCache, Inputs


class Effects:
    """Compares variants of a model with the model itself on a few samples, starting from what they have in common."""

    def __init__(self, model: Model, inputs: Inputs) -> None:
        self.model, self.inputs = model, inputs
        self.cache = cache = ActivationCache(model, inputs)
        outputs = without_last_softmax(model)
        truth = list(cache.batches(outputs))
        self.outputs = [n for n in outputs if len({b[n].shape[1:] for b in truth}) == 1]
        self._truth = [{n: b[n] for n in self.outputs} for b in truth]
        self._power = {n: max(_variance([b[n] for b in self._truth]), 1e-30) for n in self.outputs}
        self._index = index_of(model)

    def start_at(self, place: int) -> None:
        """Hold what is alive before the node at ``place``; variants must agree with the model up to there."""
        index = self._index
        alive = [n for n, i in index.place.items() if i < place and max(index.readers(n), default=-1) >= place]
        self.cache.hold(alive)
        self.cache.retain(alive)

    def of(self, weights: Mapping[str, Floats]) -> float:
        """Mean squared difference of the outputs with these constants, relative to the outputs' variance."""
        variant = Model(self.model.proto, {**self.model.weights, **weights}, None, [])
        return self._between(self.cache, variant)

    def divergence(self, weights: Mapping[str, Floats]) -> float:
        """How far the probabilities that a Softmax makes of the outputs diverge, the mean over samples."""
        variant = Model(self.model.proto, {**self.model.weights, **weights}, None, [])
        total, samples = 0.0, 0
        for batch, truth in zip(self.cache.batches(self.outputs, variant), self._truth, strict=True):
            for name in self.outputs:
                theirs, ours = (_logarithms(v[name]) for v in (truth, batch))
                total += float((np.exp(theirs) * (theirs - ours)).sum())
            samples += len(truth[self.outputs[0]]) if self.outputs else 0
        return total / max(1, samples)

    def of_model(self, variant: Model) -> float:
        """The same for a variant that may be built otherwise; it runs from the inputs on."""
        return self._between(ActivationCache(variant, self.inputs), variant)

    def _between(self, cache: ActivationCache, variant: Model) -> float:
        total, sizes = dict.fromkeys(self.outputs, 0.0), dict.fromkeys(self.outputs, 0)
        for batch, truth in zip(cache.batches(self.outputs, variant), self._truth, strict=True):
            for name in self.outputs:
                if batch[name].shape != truth[name].shape:
                    return float("inf")
                known = np.isfinite(truth[name])
                here, there = (np.where(known, v[name], 0).astype(np.float64) for v in (batch, truth))
                total[name] += float(np.square(here - there).sum()) / self._power[name]
                sizes[name] += here.size
        return sum(total[n] / max(1, sizes[n]) for n in self.outputs) / max(1, len(self.outputs))


def without_last_softmax(model: Model) -> list[str]:
    """The float outputs, those of a last Softmax replaced by what goes into it, which tells more."""
    made = index_of(model).makers
    names = []
    for output in model.graph.output:
        name = output.name
        while name in made and has_any(made[name], Trait.PROBABILITIES | Trait.IDLE):
            name = made[name].input[0]
        elem = output.type.tensor_type.elem_type
        if elem in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE) and name in made:
            names.append(name)
    return list(dict.fromkeys(names))


def _logarithms(scores: Floats) -> Floats:
    """Of probabilities. Shapes: (samples, ...) -> (samples, classes)."""
    flat = scores.reshape(len(scores), -1).astype(np.float64)
    flat -= flat.max(axis=1, keepdims=True)
    return np.asarray(flat - np.log(np.exp(flat).sum(axis=1, keepdims=True)))


def _variance(values: Sequence[Floats]) -> float:
    """Mean over entries of the variance over samples."""
    rows = np.concatenate([v.reshape(len(v), -1) for v in values]).astype(np.float64)
    rows = np.where(np.isfinite(rows), rows, 0.0)
    if len(rows) > 1:
        return float(rows.var(axis=0).mean())
    return float(rows.var())
