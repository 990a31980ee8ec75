"""Gradual magnitude pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS
from .masked import Density, Masked, kept

if TYPE_CHECKING:
    from ...engine.student import Student


class Gradual(Density):
    until: float = Field(default=0.7, gt=0, lt=1, description="share of the steps in which weights go")


@METHODS.register("gmp", options=Gradual)
class GradualPruning(Masked):
    """The smallest weights go while others are trained: many at first, then fewer, along a cubic curve.

    Source: Zhu and Gupta, 2017, arXiv:1710.01878.
    """

    def __init__(self, options: Gradual) -> None:
        self._options = options

    def share(self, step: int, steps: int) -> float:
        """Of the weights that are there after a step."""
        done = min(1.0, (step + 1) / max(1, round(self._options.until * steps)))
        return 1 - (1 - self._options.density) * (1 - (1 - done) ** 3)

    def after_step(self, student: Student, step: int, steps: int) -> None:
        if step < round(self._options.until * steps):
            sizes = {name: value.abs() for name, value in self.weights(student).items()}
            self.drop(student, kept(sizes, self.share(step, steps), self._options.layers))

    def done(self, progress: float) -> bool:
        return progress >= self._options.until
