"""What becomes of one layer's weights: the rule of a walk."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph.layer import Floats
from ..calibration.support import positive
from .codebook import shared_values
from .method import METHODS, Problem
from .patterns import Pattern

AS_IT_IS = "as it is"
"""The method of weights whose zeros are there already."""


@dataclass(frozen=True)
class Sparse:
    """A layer's matrices, with zeros. Shapes: (groups, outputs, columns)."""

    matrices: Floats

    def floats(self) -> Floats:
        return self.matrices


@dataclass(frozen=True)
class SparseRule:
    """``count`` weights stay, by a method; ``codebook`` is how many values they share."""

    method: str
    pattern: Pattern
    count: int
    name: str
    seed: int
    refit: bool = True
    codebook: int | None = None

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Sparse]:
        hessian = None if hessian is None else positive(hessian)
        found = wanted
        if self.method != AS_IT_IS:
            problem = Problem(wanted, hessian, self.count, self.pattern, self.name, self.seed, self.refit)
            found = METHODS[self.method].solve(problem)
        if self.codebook is not None:
            found = shared_values(found, hessian, self.codebook)
        return self.method, Sparse(found)
