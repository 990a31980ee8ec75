"""Trained rank pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from .....graph.layers import Layers
from ....precision.edges import FIRST, edges
from ..method import METHODS, Method
from .matrices import as_matrix, as_weight, rank_of

if TYPE_CHECKING:
    from torch import Tensor

    from .....graph.layer import Layer
    from ...engine.student import Student


class TrainedRanks(BaseModel):
    scheme: Literal["channel", "spatial"] = Field(
        default="spatial", description="how kernels are seen as matrices, as in factorize"
    )
    energy: float = Field(default=0.9, gt=0, lt=1, description="share of the squared singular values that stays")
    every: int = Field(default=20, ge=1, description="steps between two truncations")
    nuclear: float = Field(default=3e-4, ge=0, description="times the sum of the singular values")


@METHODS.register("trp", options=TrainedRanks)
class TrainedRankPruning(Method):
    """Weights are cut to few ranks every few steps, and drawn there by the nuclear norm; ``factorize --energy 0.999`` then splits them.

    Source: Xu et al., TRP, IJCAI 2020, arXiv:2004.14566.
    """

    def __init__(self, options: TrainedRanks) -> None:
        self.options = options
        self._layers: list[Layer] = []

    def start(self, student: Student) -> None:
        layers = Layers(student.model)
        ends = edges(student.model, {one.node for one in layers})
        self._layers = [
            one
            for one in layers
            if ends.get(one.node) != FIRST
            and one.groups == 1
            and one.weight in student.moving
            and min(as_matrix(student.moving[one.weight], self.options.scheme).shape) > 1
        ]

    def _matrices(self, student: Student) -> list[tuple[Tensor, Tensor]]:
        """Weights, and each as a matrix."""
        weights = [student.moving[one.weight] for one in self._layers]
        return [(weight, as_matrix(weight.detach(), self.options.scheme)) for weight in weights]

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        """The sub-gradient of the nuclear norm, UVᵀ, is computed where weights are cut, and kept until the next time."""
        import torch

        for k, (weight, matrix) in enumerate(self._matrices(student)):
            if step % self.options.every == 0:
                u, _, v = torch.linalg.svd(matrix, full_matrices=False)
                self._norms(student, k, as_weight(u @ v, weight, self.options.scheme))
            if weight.grad is not None:
                weight.grad += self.options.nuclear * student.own[f"norm/{k}"]

    def _norms(self, student: Student, k: int, value: Tensor) -> None:
        if f"norm/{k}" in student.own:
            student.own[f"norm/{k}"].copy_(value)
        else:
            student.add(f"norm/{k}", value.contiguous())

    def after_step(self, student: Student, step: int, steps: int) -> None:
        import torch

        if (step + 1) % self.options.every and step + 1 != steps:
            return
        for weight, matrix in self._matrices(student):
            u, values, v = torch.linalg.svd(matrix, full_matrices=False)
            rank = rank_of(values, self.options.energy)
            few = (u[:, :rank] * values[:rank]) @ v[:rank]
            weight.data.copy_(as_weight(few, weight, self.options.scheme))

    def done(self, progress: float) -> bool:
        return progress >= 1
