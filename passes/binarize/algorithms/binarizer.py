"""How a layer's weights become one or two bits: a registry of algorithms, and the question that each of them answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ....graph.layer import Floats
from ....graph.registry import Registry
from ...calibration.gradients import Gradient
from ...needs import GRADIENTS, SECOND_MOMENTS
from ...rounding.problem import Question
from .codes import Code, parts_of


@dataclass(frozen=True)
class Problem(Question):
    """One layer: the matrices that are wanted, and the second moments of what they multiply, None without data.

    ``block`` columns share scales, 0 for whole rows; ``salient`` is the fraction of weights that keep eight bits, in
    algorithms that have such, and ``seen`` what a look at the whole layer told, where these are some of its rows. Shapes: wanted (groups, outputs, columns), hessian (groups, columns, columns).
    """

    wanted: Floats
    hessian: Floats | None = None
    block: int = 0
    salient: float = 0.1
    gradient: Gradient | None = None
    seen: Any = None

    @property
    def columns(self) -> int:
        return int(self.wanted.shape[-1])

    @property
    def blocks(self) -> list[slice]:
        """Columns that share scales."""
        width = self.block or max(1, self.columns)
        return [slice(at, min(at + width, self.columns)) for at in range(0, self.columns, width)]

    @cached_property
    def part(self) -> NDArray[np.intp]:
        return parts_of(self.columns, self.block)

    def sums(self, values: Floats) -> Floats:
        """Of each row's blocks. Shapes: (..., columns) -> (..., blocks)."""
        starts = np.arange(0, max(1, self.columns), self.block or max(1, self.columns))
        return np.add.reduceat(values, starts, axis=-1)

    def means(self, values: Floats, where: NDArray[np.bool_] | None = None) -> Floats:
        """Of each row's blocks, over some of their entries; 0 where there are none."""
        where = np.ones(values.shape, bool) if where is None else where
        count = self.sums(where.astype(np.float64))
        return np.asarray(self.sums(np.where(where, values, 0.0)) / np.maximum(count, 1.0))

    def wide(self, values: Floats) -> Floats:
        """Shapes: (..., blocks) -> (..., columns)."""
        return values[..., self.part]


@dataclass(frozen=True)
class Look:
    """A large layer without data. ``parts`` make the problems that some rows after the other are."""

    parts: tuple[Callable[[], Problem], ...]

    def __iter__(self) -> Iterator[Problem]:
        return (make() for make in self.parts)


Errors = tuple[float, float]
"""Squared errors relative to the squares of independent weights, normal ones and Laplace's."""


@dataclass(frozen=True)
class Binarizer:
    """An algorithm with the error that it leaves without data, which may depend on the fraction of salient weights.

    ``block`` is what it cuts rows into where the user does not say, None where all of a row must share its scales.
    ``by_rows`` says that rows do not depend on each other where there is no data, or that they do by what ``look`` sees of
    a whole layer: for each of its parts, what is then ``seen`` in the problem that these rows are.
    """

    solve: Callable[..., Code]
    errors: Errors | Callable[[float], Errors]
    block: int | None = 0
    by_rows: bool = False
    look: Callable[[Look], Iterable[Any]] = lambda layer: repeat(None)

    def with_options(self, options: BaseModel) -> Binarizer:
        return replace(self, solve=partial(self.solve, options=options))

    def expected(self, power: float, size: float, salient: float) -> float:
        """The error on weights between the two distributions, which the mean size in units of the root mean square
        tells apart: √(2/π) of normal weights, √(1/2) of Laplace's. ``power`` is the mean square.
        """
        normal, laplace = self.errors if isinstance(self.errors, tuple) else self.errors(salient)
        if power == 0:
            return 0.0
        flat = size / np.sqrt(power)
        tail = np.clip((_NORMAL - flat) / (_NORMAL - _LAPLACE), 0.0, 1.0)
        return float(normal + tail * (laplace - normal))


_NORMAL, _LAPLACE = float(np.sqrt(2 / np.pi)), float(np.sqrt(0.5))

BINARIZERS: Registry[Binarizer] = Registry(
    "binarization",
    "intaglio.binarizers",
    "intaglio.passes.binarize.algorithms",
    of=Binarizer,
    offers=(SECOND_MOMENTS, GRADIENTS),
)


def binarizer(
    name: str,
    errors: Errors | Callable[[float], Errors],
    *,
    block: int | None = 0,
    by_rows: bool = False,
    look: Callable[[Look], Iterable[Any]] = lambda layer: repeat(None),
    options: type[BaseModel] | None = None,
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[..., Code]], Callable[..., Code]]:
    """Register a function. The first line of its docstring is shown to users, the paper is named below it."""

    def add(solve: Callable[..., Code]) -> Callable[..., Code]:
        BINARIZERS.register(name, options=options, needs=needs)(Binarizer(solve, errors, block, by_rows, look))
        return solve

    return add


@dataclass(frozen=True)
class BitRule:
    """What one layer's weights become: the rule of a walk. ``half`` lets scales be stored in 16 bits."""

    name: str
    block: int = 0
    salient: float = 0.1
    half: bool = False
    gradient: Gradient | None = None

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Code]:
        if hessian is None and SECOND_MOMENTS in BINARIZERS.entry(self.name).needs:  # not measured: all count alike
            hessian = np.broadcast_to(np.eye(wanted.shape[-1]), (len(wanted), *[wanted.shape[-1]] * 2))
        problem = Problem(wanted, hessian, self.block, self.salient, self.gradient)
        return self.name, self._stored(BINARIZERS[self.name].solve(problem))

    @property
    def by_rows(self) -> bool:
        """Whether rows do not depend on each other where there is no data."""
        return BINARIZERS[self.name].by_rows

    def solve_rows(self, parts: Sequence[Callable[[], Floats]]) -> tuple[str, Code]:
        """The same without data, of the rows of some outputs after the other."""
        layer = Look(tuple(partial(self._problem, part) for part in parts))
        seen = BINARIZERS[self.name].look(layer)
        codes = [
            BINARIZERS[self.name].solve(replace(make(), seen=one)) for make, one in zip(layer.parts, seen, strict=False)
        ]
        return self.name, self._stored(Code.joined(codes))

    def _problem(self, part: Callable[[], Floats]) -> Problem:
        return Problem(part(), None, self.block, self.salient)

    def _stored(self, found: Code) -> Code:
        return found.stored(half=self.half or not found.plain)
