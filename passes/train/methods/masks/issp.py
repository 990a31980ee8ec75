"""Small weights shrink instead of being cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS
from .masked import Density, Masked, kept

if TYPE_CHECKING:
    from ...engine.student import Student


class Shrinking(Density):
    shrink: float = Field(
        default=0.95, gt=0, lt=1, description="what the smallest weights are multiplied with in each step"
    )
    until: float = Field(default=0.7, gt=0, lt=1, description="share of the steps after which they are gone")


@METHODS.register("issp", options=Shrinking)
class SoftShrinkage(Masked):
    """In each step the smallest weights shrink a little, whichever they are by then; late in training they go.

    Source: Wang et al., Iterative Soft Shrinkage, ICCV 2023, arXiv:2303.09650.
    """

    def __init__(self, options: Shrinking) -> None:
        self._options = options

    def after_step(self, student: Student, step: int, steps: int) -> None:
        last = round(self._options.until * steps)
        if step + 1 > last:
            return
        weights = self.weights(student)
        masks = kept({n: v.abs() for n, v in weights.items()}, self._options.density, self._options.layers)
        if step + 1 == last:
            self.drop(student, masks)
        else:
            for name, value in weights.items():
                value[~masks[name]] *= self._options.shrink

    def done(self, progress: float) -> bool:
        return progress >= self._options.until
