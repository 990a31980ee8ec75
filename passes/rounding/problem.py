"""The questions that every way of rounding a layer, or of making it bits, answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..calibration.gradients import Gradient
from ..calibration.walk import row_costs
from ..needs import GRADIENTS, undeclared
from ..precision.grid import Floats, Grid


class Question:
    """What is handed to all that choose a layer's weights, for what they declare that they need.

    Shapes: wanted (groups, outputs, columns), hessian (groups, columns, columns).
    """

    wanted: Floats
    hessian: Floats | None
    gradient: Gradient | None

    def cost(self, matrices: Floats) -> Floats:
        """Of each row: see ``row_costs``. Shapes: (groups, outputs)."""
        return row_costs(matrices - self.wanted, self.hessian)

    @property
    def gradients(self) -> Floats:
        """Of the loss with respect to the weights as they were, the mean over batches. Shapes: as wanted."""
        return self._gradient.mean

    @property
    def squared_gradients(self) -> Floats:
        """The mean over batches of squared gradients: the diagonal of an empirical Fisher matrix. Shapes: as wanted."""
        return self._gradient.squares

    @property
    def _gradient(self) -> Gradient:
        if self.gradient is None:
            raise undeclared("rounding or binarization", GRADIENTS)
        return self.gradient


@dataclass(frozen=True)
class Problem(Question):
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
    gradient: Gradient | None = None
    nought: NDArray[np.bool_] | None = None
    """Where weights must stay nought; None for nowhere."""

    def kept(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Limits of integers less their zero points, 0 where weights stay nought. Shapes: (groups, outputs, columns)."""
        if self.nought is None:
            return low, high
        return np.where(self.nought, 0.0, low), np.where(self.nought, 0.0, high)
