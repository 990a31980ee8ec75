"""Signs of most weights, beside a few that stay what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ..masks.masked import kept, prunable
from ..method import METHODS, Method
from .rows import filters, of_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Partly(BaseModel):
    salient: float = Field(
        default=0.1, gt=0, lt=1, description="share of each layer's weights, the largest, that stays"
    )


@METHODS.register("pb", options=Partly)
class PartlyBinary(Method):
    """Of each layer the largest weights are frozen; the others are a mean and a sign times their mean size, computed anew in each run.

    Source: Shang et al., PB-LLM, 2023, arXiv:2310.00034.
    """

    def __init__(self, options: Partly) -> None:
        self._options = options
        self._axes: dict[str, int] = {}

    def start(self, student: Student) -> None:
        weights = prunable(student)
        self._axes = of_rows(student)
        sizes = {name: value.detach().abs() for name, value in weights.items()}
        for name, mask in kept(sizes, self._options.salient, "uniform").items():
            student.add(f"salient/{name}", mask)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        salient = student.own.get(f"salient/{name}")
        if salient is None:
            return value
        from ...engine.signs import signs

        rows, frozen = (filters(one, self._axes[name]) for one in (value, salient))
        others = (~frozen).to(rows.dtype)
        count = others.sum(1, keepdim=True).clamp_min(1)
        mean = (rows.detach() * others).sum(1, keepdim=True) / count
        size = ((rows.detach() - mean).abs() * others).sum(1, keepdim=True) / count
        centred = rows - mean
        made = mean + size * signs(centred, centred, centred.new_ones(()))
        return (
            made.where(~frozen, rows.detach())
            .reshape(value.movedim(self._axes[name], 0).shape)
            .movedim(0, self._axes[name])
        )

    def done(self, progress: float) -> bool:
        return progress > 0
