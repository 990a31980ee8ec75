"""Channels behind gates that harden while a network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .....graph.index import index_of
from .....graph.layers import Layers
from .....graph.traits import Trait, has
from ....precision.edges import edges
from ..method import METHODS, Method
from .masked import random_like

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Hardening(BaseModel):
    weight: float = Field(default=0.5, ge=0, description="times the share of the channels that are there")
    hardest: float = Field(default=200.0, gt=1, description="what gates are multiplied with at last, from 1 on")
    start: float = Field(default=0.1, description="where gates begin; below zero, channels have to grow")
    pace: float = Field(default=10.0, gt=0, description="steps of gates beside those of weights")
    seed: int = Field(default=0, ge=0, description="of what is drawn")


@METHODS.register("continuous", options=Hardening)
class ContinuousSparsification(Method):
    """Each inner channel has a gate, a sigmoid that becomes a step; channels whose gate closes are zero, and ``prune`` takes them out.

    Source: Yuan et al., Growing Efficient Deep Networks by Structured Continuous Sparsification, ICLR 2021, arXiv:2007.15353.
    Differs: the share of channels counts, not a budget; gates of channels that are added to each other are not tied.
    """

    def __init__(self, options: Hardening) -> None:
        self.options, self._progress, self._drawn = options, 0.0, 0
        self._gates: dict[str, tuple[str, int]] = {}

    def start(self, student: Student) -> None:
        """Rows of a layer, its bias, and what a normalization behind it scales and shifts with, have one gate."""
        import torch

        index, layers = index_of(student.model), Layers(student.model)
        ends = edges(student.model, {one.node for one in layers})
        for one in layers:
            if one.node in ends or one.groups > 1 or layers.tied(one) or one.weight not in student.moving:
                continue
            behind = index.sole_reader(one.output)
            standardizes = behind is not None and has(behind, Trait.STANDARDIZES)
            vectors = [one.bias, *(behind.input[1:3] if behind is not None and standardizes else ())]
            for name, axis in [(one.weight, one.axis), *((name, 0) for name in vectors if name in student.moving)]:
                self._gates[str(name)] = one.node, axis
            value = torch.full((student.moving[one.weight].shape[one.axis],), self.options.start)
            student.add(f"gate/{one.node}", value, pace=self.options.pace)

    def hardness(self, progress: float) -> float:
        return float(self.options.hardest**progress)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if name not in self._gates:
            return value
        node, axis = self._gates[name]
        gate = student.own[f"gate/{node}"]
        if student.training:
            there = (self.hardness(self._progress) * gate).sigmoid()
            drawn = random_like(there, self.options.seed + 7919 * self._drawn) < there.detach()
            there = there * drawn
        else:
            there = (gate > 0).to(value.dtype)
        return value * there.reshape([-1 if a == axis else 1 for a in range(value.ndim)])

    def before_step(self, student: Student, step: int, steps: int) -> None:
        self._progress, self._drawn = step / steps, step

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        import torch

        gates = [(self.hardness(progress) * value).sigmoid() for value in student.own.values()]
        return self.options.weight * torch.cat(gates).mean() if gates else None

    def done(self, progress: float) -> bool:
        return progress > 0.5
