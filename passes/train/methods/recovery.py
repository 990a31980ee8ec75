"""Methods that win back what a pass lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.student import Student


@METHODS.register("finetune")
class Finetune(Method):
    """Go on with labels."""

    losses = ("ce",)


@METHODS.register("distill")
class Distill(Method):
    """Reach the teacher's outputs again, without labels. Source: Hinton et al., 2015, arXiv:1503.02531."""

    losses = ("kd",)
    otherwise = ("mse",)


class Anchor(BaseModel):
    strength: float = Field(
        default=0.01, gt=0, description="times half the squared distance, beside the squared length"
    )


@METHODS.register("anchored", options=Anchor)
class Anchored(Finetune):
    """Go on with labels, drawn to the weights at first: for few samples. Source: Li et al., ICML 2018, arXiv:1802.01483."""

    def __init__(self, options: Anchor) -> None:
        self._strength = options.strength

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        """Of each weight beside its own length, so that large layers do not count for all."""
        import torch

        total = torch.zeros(())
        for name, tensor in student.moving.items():
            first = student.first[name]
            total = total + (tensor - first).square().sum() / first.square().sum().clamp_min(1e-12)
        return 0.5 * self._strength * total
