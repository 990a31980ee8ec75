"""Binary networks out of any network of floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field

from ...binary.convert import SIGNS, Binary, binarized, written
from ...binary.estimators import ESTIMATORS
from ...binary.operators import BINARY_OPERATORS
from ..method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from .....graph.model import Model
    from .....measure.autograd.call import Call
    from .....measure.data.source import DataSource
    from ...engine.student import Student
    from ...weights import Weight


LATENT = 0.1
"""Mean size of the floats behind signs, whatever it was: so they go from one sign to the other in some steps, not in one."""
_THIRDS = 4 / 3
"""Ternary weights stand for this times their mean size: Liu et al., 2023, arXiv:2306.01841."""


class BinaryOptions(BaseModel):
    operator: str = Field(default="react", description="what is around signs: intaglio passes lists binary operators")
    estimator: str = Field(default="", description="the gradient of signs, for that which the operator says")
    first: float = Field(default=0.3, ge=0, lt=1, description="share of the steps in which weights stay floats")


@METHODS.register("bnn", options=BinaryOptions)
class Binarizing(Method):
    """Inner layers multiply signs, after two stages: signs of activations first, of weights then; ``binarize --scheme pack`` stores them.

    Source of the stages: Martinez et al., ICLR 2020, arXiv:2003.11535; of operators and estimators: what they name.
    """

    def __init__(self, options: BinaryOptions) -> None:
        self._operator, self._first = BINARY_OPERATORS[options.operator], options.first
        named = (options.estimator or self._operator.estimator, options.estimator or self._operator.of_weights)
        self._of_inputs, self._of_weights = (ESTIMATORS[name] for name in named)
        self._progress = 0.0
        self.binary: dict[str, Binary] = {}
        """By the name of their weights."""
        self._scales: dict[str, Binary] = {}
        self._elastic: list[str] = []
        self._ratios: dict[str, float] = {}

    def prepared(self, model: Model, data: DataSource) -> Model:
        made, layers = binarized(model, self._operator)
        self.binary = {one.weight: one for one in layers}
        for name in self.binary:
            weight = made.weights[name]
            self._ratios[name] = float(np.abs(weight).mean()) / LATENT or 1.0
            made.put(name, (weight / self._ratios[name]).astype(np.float32))
        if self._operator.scale != "learned":
            self._scales = {one.scale: one for one in layers if one.scale}
        self._elastic = [one.elastic for one in layers if one.elastic]
        if self._elastic:
            for one, size in zip(layers, _mean_sizes(model, [one.x for one in layers], data), strict=True):
                made.put(one.elastic, np.array(2 * size, np.float32))
        return made

    def also(self, model: Model, weights: Sequence[Weight]) -> Sequence[str]:
        return self._elastic

    def start(self, student: Student) -> None:
        for name in self._elastic:
            student.add(f"elastic/{name}", student.given[name].clone(), pace=1.0)

    def operators(self) -> Mapping[str, Callable[[Any], Any]]:
        return {SIGNS: self._signs}

    def _signs(self, call: Call) -> Tensor:
        from ...engine.signs import signs

        x, unit = call.tensor(), call.attr("unit", 0)
        centred = 2 * x - 1 if unit else x
        if call.training:
            centred = self._operator.inputs(centred, self._progress)
        made = signs(centred, *self._of_inputs(centred, self._progress, False))
        return (made + 1) / 2 if unit else made

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if name in self._elastic:
            return student.own[f"elastic/{name}"]
        if name in self._scales:
            return self._sizes(student.moving[self._scales[name].weight], self._scales[name]).reshape(value.shape)
        if name not in self.binary:
            return value
        one = self.binary[name]
        filters = value.movedim(one.axis, 0)
        if self._progress < self._first:
            sizes = self._sizes(value, one) if one.scale else filters.new_ones(())
            made = filters * self._ratios[name] / sizes.clamp_min(1e-8).reshape(-1, *[1] * (filters.ndim - 1))
        else:
            made = self._signs_of(filters)
        return made.movedim(0, one.axis)

    def _signs_of(self, filters: Tensor) -> Tensor:
        from ...engine.signs import signs

        if self._operator.ternary:
            sizes = _THIRDS * filters.detach().flatten(1).abs().mean(1).clamp_min(1e-12)
            near = filters / sizes.reshape(-1, *[1] * (filters.ndim - 1))
            return near.detach().clamp(-1, 1).round() + (near - near.detach())
        taken = self._operator.weights(filters, self._progress)
        return signs(taken, *self._of_weights(taken, self._progress, True))

    def _sizes(self, weight: Tensor, one: Binary) -> Tensor:
        """Mean sizes of the weights of each filter, or of all."""
        sizes = weight.detach().movedim(one.axis, 0).flatten(1).abs().mean(1) * self._ratios[one.weight]
        sizes = sizes * _THIRDS if self._operator.ternary else sizes
        return sizes.mean().expand(len(sizes)) if self._operator.scale == "layer" else sizes

    def before_step(self, student: Student, step: int, steps: int) -> None:
        self._progress = step / steps

    def done(self, progress: float) -> bool:
        return progress > self._first

    def finished(self, model: Model, student: Student) -> Model:
        return written(model)


def _mean_sizes(model: Model, names: Sequence[str], data: DataSource) -> list[float]:
    """Of the numbers of tensors, on a few samples."""
    import torch

    from .....measure.autograd.network import Network

    with torch.no_grad():
        made = Network(model, list(dict.fromkeys(names)))(next(data.batches(64)).inputs)
    return [float(made[name].abs().mean()) for name in names]
