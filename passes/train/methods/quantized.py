"""Methods that learn what the integers of a model stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ..scales import Scale, bias_scales, scales_of
from .method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ....graph.model import Model
    from ..engine.student import Student
    from ..weights import Weight


@METHODS.register("ste")
class FixedScales(Method):
    """Move weights through rounding; scales stay what they are. Source: Bengio et al., 2013, arXiv:1308.3432."""


class LsqOptions(BaseModel):
    pace: float = Field(default=10.0, gt=0, description="relative steps of scales beside steps of weights")


@METHODS.register("lsq", options=LsqOptions)
class LearnedScales(Method):
    """Learn the scales of weights and activations with the weights; those of biases stay the product of both.

    Source: Esser et al., "Learned step size quantization", ICLR 2020, arXiv:1902.08153.
    Differs: logarithms of scales are moved, so that scales stay positive and move alike whatever their size.
    """

    def __init__(self, options: LsqOptions) -> None:
        self._pace = options.pace
        self._scales: list[Scale] = []
        self._place: dict[str, int] = {}
        self._products: Mapping[str, tuple[str, str]] = {}

    def also(self, model: Model, weights: Sequence[Weight]) -> list[str]:
        self._scales = [one for one in scales_of(model, weights) if self.learns(one)]
        self._place = {name: k for k, one in enumerate(self._scales) for name in one.names}
        self._products = bias_scales(model)
        return [*self._place, *self._products]

    def learns(self, scale: Scale) -> bool:
        """Whether a scale moves."""
        return True

    def start(self, student: Student) -> None:
        import torch

        for k, one in enumerate(self._scales):
            student.add(f"scale {k}", torch.zeros_like(student.given[one.names[0]]), pace=self._pace)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if name in self._place:
            return value * student.own[f"scale {self._place[name]}"].exp()
        if name in self._products:
            x, weight = (student.seen(one).detach() for one in self._products[name])
            return (x * weight).reshape(value.shape)
        return value

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        """Gradients of scales as large as those of weights."""
        for k, one in enumerate(self._scales):
            gradient = student.own[f"scale {k}"].grad
            if gradient is not None:
                gradient /= math.sqrt(one.count * one.greatest)


@METHODS.register("pact", options=LsqOptions)
class LearnedClipping(LearnedScales):
    """Learn how far activations reach, by what lies beyond alone.

    Source: Choi et al., "PACT", 2018, arXiv:1805.06085.
    """

    def learns(self, scale: Scale) -> bool:
        return not scale.of_weights

    def operators(self) -> Mapping[str, Callable[[Any], Any]]:
        from ....measure.autograd.quantized import quantize_learning_reach

        return {"QuantizeLinear": quantize_learning_reach}
