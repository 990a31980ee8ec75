"""The question that every way of rounding a layer answers."""

from __future__ import annotations

from dataclasses import dataclass

from ..calibration.walk import row_costs
from ..precision.grid import Floats, Grid


@dataclass(frozen=True)
class Problem:
    """One layer: the matrices that are wanted, and how much a change of them costs.

    The cost of matrices Q is the sum over groups of tr((Q - W) H (Q - W)ᵀ), with W wanted and H the second moments of
    the layer's rows; without data H is None, and all columns count alike. ``block`` columns share a scale, 0 for whole
    rows. ``symmetric`` asks for a zero point of 0.

    Shapes: wanted (groups, outputs, columns), hessian (groups, columns, columns).
    """

    wanted: Floats
    grid: Grid
    hessian: Floats | None = None
    block: int = 0
    symmetric: bool = True

    def cost(self, matrices: Floats) -> Floats:
        """Of each row. Shapes: (groups, outputs)."""
        return row_costs(matrices - self.wanted, self.hessian)
