"""Weights by the filters that have a scale of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .....graph.layers import Layers

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


def of_rows(student: Student) -> dict[str, int]:
    """The axis along which filters stand, by weight."""
    return {one.weight: one.axis for one in Layers(student.model).weighted}


def filters(value: Tensor, axis: int) -> Tensor:
    """Shapes: -> (filters, all else)."""
    return value.movedim(axis, 0).flatten(1)
