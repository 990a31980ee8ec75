"""Subnetworks of a network whose weights stay, by gates that are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ..method import METHODS, Method
from .masked import prunable, random_like

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Gates(BaseModel):
    pace: float = Field(default=30.0, gt=0, description="steps of gates beside those of weights")
    heat: float = Field(default=1.0, gt=0, description="temperature at first; it falls to a tenth")
    weight: float = Field(default=0.0, ge=0, description="times the mean of all gates, so that more close")
    random: bool = Field(default=False, description="whether weights become random first")
    seed: int = Field(default=0, ge=0, description="of what is drawn")


@METHODS.register("gumbel", options=Gates)
class GumbelGates(Method):
    """Each weight has a gate that is drawn in training, and open at last where it is open more often than not; each layer has a scale.

    Source of the gates: Jang et al., ICLR 2017, arXiv:1611.01144; Maddison et al., ICLR 2017, arXiv:1611.00712.
    """

    def __init__(self, options: Gates) -> None:
        self.options, self._progress, self._drawn = options, 0.0, 0

    def start(self, student: Student) -> None:
        import torch

        weights = prunable(student)
        student.freeze(weights)
        for k, (name, value) in enumerate(weights.items()):
            if self.options.random:
                spread = (2 / max(1, value[0].numel())) ** 0.5
                value.data.copy_((random_like(value, self.options.seed + k) - 0.5) * spread * 12**0.5)
            student.add(f"gate/{name}", torch.full_like(value, 1.0), pace=self.options.pace)
            student.add(f"scale/{name}", torch.ones(()), pace=1.0)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if f"gate/{name}" not in student.own:
            return value
        gate = student.own[f"gate/{name}"]
        if student.training:
            self._drawn += 1
            u = random_like(gate, self.options.seed + 7919 * self._drawn).clamp(1e-6, 1 - 1e-6)
            heat = self.options.heat * 0.1**self._progress
            there = ((gate + u.log() - (1 - u).log()) / heat).sigmoid()
        else:
            there = (gate > 0).to(value.dtype)
        return value.detach() * there * student.own[f"scale/{name}"]

    def before_step(self, student: Student, step: int, steps: int) -> None:
        self._progress, self._drawn = step / steps, step * len(student.own)

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        import torch

        if not self.options.weight:
            return None
        gates = [value.sigmoid().flatten() for name, value in student.own.items() if name.startswith("gate/")]
        return self.options.weight * torch.cat(gates).mean()

    def done(self, progress: float) -> bool:
        return progress > 0
