"""Weights that were removed come back by chance, ever more seldom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS, Method
from .masked import Density, kept, prunable, random_like

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Annealed(Density):
    chance: float = Field(default=0.5, ge=0, le=1, description="that a removed weight is there, at first")
    until: float = Field(default=0.6, gt=0, le=1, description="share of the steps in which it falls to zero")
    seed: int = Field(default=0, ge=0, description="of what is drawn")


@METHODS.register("ssa", options=Annealed)
class StochasticAnnealing(Method):
    """The smallest weights are removed, but each is there in a run with a chance that falls to zero.

    Source: Whitaker and Whitley, Stochastic Subnetwork Annealing, 2024, arXiv:2401.08830.
    """

    def __init__(self, options: Annealed) -> None:
        self.options, self._progress, self._drawn = options, 0.0, 0

    def start(self, student: Student) -> None:
        weights = prunable(student)
        sizes = {name: value.detach().abs() for name, value in weights.items()}
        for name, mask in kept(sizes, self.options.density, self.options.layers).items():
            student.add(f"there/{name}", mask.to(weights[name].dtype))

    def chance(self, progress: float) -> float:
        return self.options.chance * max(0.0, 1 - progress / self.options.until)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        there = student.own.get(f"there/{name}")
        if there is None:
            return value
        chance = self.chance(self._progress) if student.training else 0.0
        if chance:
            self._drawn += 1
            back = random_like(there, self.options.seed + 7919 * self._drawn) < chance
            there = there.clamp_min(back.to(there.dtype))
        return value * there

    def before_step(self, student: Student, step: int, steps: int) -> None:
        self._progress, self._drawn = step / steps, step * len(student.own)
