"""Weights that the loss does not feel decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS
from .masked import Density, Masked, kept

if TYPE_CHECKING:
    from ...engine.student import Student


class Irrelevant(Density):
    decay: float = Field(
        default=0.02, gt=0, lt=1, description="what a weight that the loss does not feel loses in a step"
    )
    until: float = Field(default=0.7, gt=0, lt=1, description="share of the steps after which the smallest go")


@METHODS.register("irrelevant", options=Irrelevant)
class RelevancePruning(Masked):
    """Weights decay the more the less the loss changes with them, beside the mean of their layer; then the smallest go.

    Source: Bonetta et al., Regularization-based Pruning of Irrelevant Weights, 2022, arXiv:2204.04977.
    Differs: relevance is the size of the running gradient beside its layer's mean, as the exact term was not at hand.
    """

    def __init__(self, options: Irrelevant) -> None:
        self._options = options

    def start(self, student: Student) -> None:
        super().start(student)
        for name, value in self.weights(student).items():
            student.add(f"felt/{name}", value.new_zeros(value.shape))

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        for name in self.weights(student):
            gradient = student.moving[name].grad
            if gradient is not None:
                student.own[f"felt/{name}"].lerp_(gradient.abs(), 0.1)

    def after_step(self, student: Student, step: int, steps: int) -> None:
        last, weights = round(self._options.until * steps), self.weights(student)
        if step + 1 < last:
            for name, value in weights.items():
                felt = student.own[f"felt/{name}"]
                value *= 1 - self._options.decay * (1 - felt / felt.mean().clamp_min(1e-20)).clamp_min(0)
        elif step + 1 == last:
            sizes = {name: value.abs() for name, value in weights.items()}
            self.drop(student, kept(sizes, self._options.density, self._options.layers))

    def done(self, progress: float) -> bool:
        return progress >= self._options.until
