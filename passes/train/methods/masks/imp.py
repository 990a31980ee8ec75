"""Iterative magnitude pruning: train, drop the smallest weights, rewind the others, again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .....graph.errors import UsageError
from .....graph.io.load import load
from ..method import METHODS
from .masked import Masked, Shares, kept

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Rounds(BaseModel):
    rounds: int = Field(default=5, ge=1, description="how often weights go; training is divided into one part more")
    drop: float = Field(default=0.2, gt=0, lt=1, description="share of the weights still there that go in a round")
    rewind: float = Field(
        default=0.02, ge=0, lt=1, description="share of the first part after which weights are those rewound to"
    )
    init: str = Field(
        default="", description="the model before it was trained; rewinding goes to the given one without"
    )
    layers: Shares = Field(default="global", description="global: the smallest of all go; uniform: of each layer")


@METHODS.register("imp", options=Rounds)
class Tickets(Masked):
    """Lottery tickets: in each round the smallest weights go, and the others are again what they were at the start, or soon behind.

    Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635; Frankle et al., 2019, arXiv:1903.01611 (rewinding to a step).
    """

    parts_a_round = 1

    def __init__(self, options: Rounds) -> None:
        self.options = options
        self._parts = self.parts_a_round * options.rounds + 1

    def start(self, student: Student) -> None:
        super().start(student)
        if self.options.init:
            self._begin_from(student, Path(self.options.init))
        for name, value in student.moving.items():
            student.add(f"rewind/{name}", value.detach().clone())

    def _begin_from(self, student: Student, path: Path) -> None:
        import torch

        weights = load(path).weights
        for name, value in student.moving.items():
            if name not in weights or weights[name].shape != tuple(value.shape):
                raise UsageError(f"{path} holds no weight {name!r} of the model's shape", fix="give the same network")
            value.data.copy_(torch.tensor(weights[name]))

    def part(self, step: int, steps: int) -> tuple[int, int]:
        """Which part a step belongs to, and the first step of the next."""
        at = step * self._parts // steps
        return at, math.ceil((at + 1) * steps / self._parts)

    def before_step(self, student: Student, step: int, steps: int) -> None:
        if step == int(self.options.rewind * steps / self._parts):
            for name, value in student.moving.items():
                student.own[f"rewind/{name}"].copy_(value.detach())

    def after_step(self, student: Student, step: int, steps: int) -> None:
        at, end = self.part(step, steps)
        if step + 1 == end and at + 1 < self._parts:
            self.drop(student, self.chosen(student, at))
            self._rewind(student)

    def chosen(self, student: Student, part: int) -> dict[str, Tensor]:
        """The masks of the next part."""
        return self.largest(student)

    def largest(self, student: Student) -> dict[str, Tensor]:
        weights = self.weights(student)
        there = sum(int(student.masks[name].sum()) for name in weights) / sum(v.numel() for v in weights.values())
        return kept({n: v.abs() for n, v in weights.items()}, there * (1 - self.options.drop), self.options.layers)

    def _rewind(self, student: Student) -> None:
        for name, value in student.moving.items():
            value.data.copy_(student.own[f"rewind/{name}"])
        student.settle()
        student.forgets = True

    def pace(self, progress: float) -> float:
        """A cosine for each part."""
        within = progress * self._parts % 1
        return 0.5 * (1 + math.cos(math.pi * within))

    def done(self, progress: float) -> bool:
        return progress > 1 - 1 / self._parts
