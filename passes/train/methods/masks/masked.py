"""What methods with masks share: which weights they are of, and how many of them stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from .....graph.layers import Layers
from ..method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student

Shares = Literal["global", "uniform"]
_FLOOR = 0.1
"""Each layer keeps so much of the common share at least: a layer without weights ends a network."""


class Density(BaseModel):
    density: float = Field(default=0.2, gt=0, le=1, description="share of the weights that stay")
    layers: Shares = Field(default="global", description="global: the largest of all; uniform: the share in each layer")


def prunable(student: Student) -> dict[str, Tensor]:
    """Weights of layers that are moved as floats."""
    names = {one.weight for one in Layers(student.model).weighted}
    return {name: value for name, value in student.moving.items() if name in names and name not in student.codes}


def kept(scores: Mapping[str, Tensor], share: float, layers: Shares = "global") -> dict[str, Tensor]:
    """Where the highest scores stand: masks that keep ``share`` of all, to the number, and something of each layer."""
    import torch

    if layers == "uniform":
        return {name: kept({name: one}, share)[name] for name, one in scores.items()}
    flat = torch.cat([one.detach().flatten() for one in scores.values()])
    sizes, place = [one.numel() for one in scores.values()], 0
    for size in sizes:
        best = flat[place : place + size].topk(max(1, math.ceil(_FLOOR * share * size))).indices
        flat[place + best] = math.inf
        place += size
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(max(1, round(share * len(flat)))).indices] = True
    parts = torch.split(mask, sizes)
    return {name: part.reshape(one.shape) for (name, one), part in zip(scores.items(), parts, strict=True)}


def random_like(value: Tensor, seed: int) -> Tensor:
    """Numbers from 0 to 1, the same in each run."""
    import torch

    return torch.rand(value.shape, generator=torch.Generator().manual_seed(seed))


class Masked(Method):
    """Methods that set weights to zero for good."""

    def start(self, student: Student) -> None:
        import torch

        for name, value in prunable(student).items():
            student.masks.setdefault(name, torch.ones_like(value, dtype=torch.bool))

    def weights(self, student: Student) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in prunable(student).items()}

    def drop(self, student: Student, masks: Mapping[str, Tensor]) -> None:
        """From now on weights beside the masks are zero."""
        for name, mask in masks.items():
            student.masks[name] &= mask
            student.moving[name].data.mul_(student.masks[name])
