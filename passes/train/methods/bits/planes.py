"""Weights as two planes of signs with learned scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..masks.masked import prunable
from ..method import METHODS, Method
from .rows import filters, of_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


@METHODS.register("binarydm")
class LearnablePlanes(Method):
    """Each filter is two planes of signs, the second of what the first leaves, with two scales that are learned: four levels.

    Source: Zheng et al., BinaryDM, 2024, arXiv:2404.05662. Its loss is ``lrm``; ``binarize --scheme planes`` stores the result.
    Differs: all layers at once, and activations stay floats.
    """

    def __init__(self) -> None:
        self._axes: dict[str, int] = {}

    def start(self, student: Student) -> None:
        self._axes = of_rows(student)
        for name, value in prunable(student).items():
            rows = filters(value.detach(), self._axes[name])
            first = rows.abs().mean(1, keepdim=True)
            student.add(f"first/{name}", first, pace=1.0)
            student.add(f"second/{name}", (rows.abs() - first).abs().mean(1, keepdim=True), pace=1.0)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if f"first/{name}" not in student.own:
            return value
        from ...engine.signs import signs

        first, second = student.own[f"first/{name}"], student.own[f"second/{name}"]
        rows = filters(value, self._axes[name])
        near = rows / rows.detach().abs().mean().clamp_min(1e-12)
        inside = (near.abs() <= 3).to(rows.dtype)
        one = signs(near, rows, inside)
        made = first * one + second * signs(near, rows - first * one, inside)
        return made.reshape(value.movedim(self._axes[name], 0).shape).movedim(0, self._axes[name])

    def done(self, progress: float) -> bool:
        return progress > 0
