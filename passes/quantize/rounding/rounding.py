"""How a layer's weights become integers: a registry of methods, and the question that each of them answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ....graph.registry import Registry
from ...calibration.gradients import Gradient
from ...needs import GRADIENTS, SECOND_MOMENTS
from ...precision.grid import Floats, Grid, Quantized
from ...rounding.problem import Problem


class Rounder(Protocol):
    """Finds integers and scales. The first line of its docstring is shown to users, the paper is named below it."""

    def __call__(self, problem: Problem, /) -> Quantized: ...


ROUNDERS: Registry[Rounder] = Registry(
    "rounding", "intaglio.rounders", "intaglio.passes.quantize.rounding", offers=(SECOND_MOMENTS, GRADIENTS)
)

CANDIDATES = ("nearest", "descent")
"""With data, of equals the first; mse and gptq cannot win, as descent starts from the better of all for each row."""
BLIND = ("nearest", "mse")
"""Without."""


def cheapest(problem: Problem, names: Sequence[str]) -> tuple[str, Quantized]:
    """Of some methods the one whose answer costs the layer least, and the answer; of equals the first."""
    found = {name: ROUNDERS[name](problem) for name in names}
    costs = {name: float(problem.cost(q.floats()).sum()) for name, q in found.items()}
    name = min(found, key=lambda n: costs[n])
    return name, found[name]


@ROUNDERS.register("auto")
def auto(problem: Problem) -> Quantized:
    """What costs each layer least, of nearest, mse, gptq and descent."""
    return cheapest(problem, CANDIDATES if problem.hessian is not None else BLIND)[1]


@dataclass(frozen=True)
class Spec:
    """What one layer's weights become: integers of which kind, how many columns share a scale (0: a row).

    Of the ``methods`` the one is taken that costs the layer least. Of ``masked`` weights those that are nought stay so.
    """

    grid: Grid
    methods: tuple[str, ...]
    block: int = 0
    symmetric: bool = True
    gradient: Gradient | None = None
    masked: bool = False

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Quantized]:
        return cheapest(self._problem(wanted, hessian), self.methods)

    def _problem(self, wanted: Floats, hessian: Floats | None) -> Problem:
        nought = wanted == 0 if self.masked else None
        return Problem(wanted, self.grid, hessian, self.block, self.symmetric, self.gradient, nought)

    @property
    def by_rows(self) -> bool:
        """Whether rows do not depend on each other."""
        return set(self.methods) <= {*BLIND}

    def solve_rows(self, parts: Sequence[Callable[[], Floats]]) -> tuple[str, Quantized]:
        """The same without data, of the rows of some outputs after the other."""
        found: dict[str, list[Quantized]] = {name: [] for name in self.methods}
        costs: dict[str, list[Floats]] = {name: [] for name in self.methods}
        for part in parts:
            problem = self._problem(part(), None)
            for name in self.methods:
                found[name].append(ROUNDERS[name](problem))
                costs[name].append(problem.cost(found[name][-1].floats()))
        totals = {name: float(np.concatenate(some, axis=1).sum()) for name, some in costs.items()}
        name = min(found, key=lambda n: totals[n])
        return name, Quantized.joined(found[name])
