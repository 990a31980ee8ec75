"""Pruning that looks at which negative weights keep units silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS
from .imp import Rounds, Tickets
from .masked import kept

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Selective(Rounds):
    negative: float = Field(
        default=0.02, ge=0, lt=1, description="share of the weights still there that go for being negative"
    )


@METHODS.register("ap", options=Selective)
class SelectiveActivation(Tickets):
    """Of what goes in a round, some are negative weights that moved least: they keep units from being active.

    Source: Liu et al., AP: Selective Activation for De-sparsifying Pruned Neural Networks, 2022, arXiv:2212.06145.
    """

    options: Selective

    def chosen(self, student: Student, part: int) -> dict[str, Tensor]:
        import torch

        weights = self.weights(student)
        there = sum(int(student.masks[name].sum()) for name in weights)
        count = round(min(self.options.negative, self.options.drop) * there)
        still = {
            n: (v - student.own[f"rewind/{n}"]).abs().where((v < 0) & student.masks[n], torch.inf)
            for n, v in weights.items()
        }
        flat = torch.cat([one.flatten() for one in still.values()])
        count = min(count, int(flat.isfinite().sum()))
        out = torch.zeros_like(flat, dtype=torch.bool)
        out[flat.topk(count, largest=False).indices] = True
        gone = dict(zip(weights, torch.split(out, [v.numel() for v in weights.values()]), strict=True))
        sizes = {n: v.abs().masked_fill(gone[n].reshape(v.shape), -1.0) for n, v in weights.items()}
        share = there * (1 - self.options.drop) / sum(v.numel() for v in weights.values())
        return kept(sizes, share, self.options.layers)
