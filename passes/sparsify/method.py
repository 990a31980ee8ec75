"""Which weights stay, and what they become: a registry of methods, and the question that each of them answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from zlib import crc32

import numpy as np
from pydantic import BaseModel

from ...graph.layer import Floats
from ...graph.registry import Registry
from ..calibration.support import on_support
from ..needs import SECOND_MOMENTS
from .patterns import Mask, Pattern


@dataclass(frozen=True)
class Problem:
    """One layer: the matrices that are wanted, second moments of what they multiply (None without data), and how many
    weights stay, in which ``pattern``.

    Shapes: wanted (groups, outputs, columns), hessian (groups, columns, columns).
    """

    wanted: Floats
    hessian: Floats | None
    count: int
    pattern: Pattern
    name: str = ""
    seed: int = 0
    refit: bool = True

    @property
    def known(self) -> Floats:
        """The second moments, for methods that say that they need them."""
        assert self.hessian is not None
        return self.hessian

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(self.name.encode())])

    def fitted(self, mask: Mask) -> Floats:
        """What stays, fitted where there is data."""
        if self.hessian is None or not self.refit:
            return np.where(mask, self.wanted, 0.0)
        return on_support(self.wanted, self.hessian, mask)


Scores = Callable[[Problem], Floats]
"""More for weights that matter more. Shapes: (groups, outputs, columns)."""


@dataclass(frozen=True)
class Method:
    """``solve`` gives the sparse matrices; ``scores`` compare weights of all layers, for ``--layers global``.

    One with a density of its ``own`` takes none.
    """

    solve: Callable[..., Floats]
    scores: Scores | None = None
    own: bool = False
    about: str | None = None

    def with_options(self, options: BaseModel) -> Method:
        return replace(self, solve=partial(self.solve, options=options))


def _adapted(scores: Scores, name: str) -> Method:
    """A method of a function that scores."""
    about = (scores.__doc__ or "").strip().split("\n")[0]
    return Method(
        lambda problem: problem.fitted(problem.pattern.keep(scores(problem), problem.count)),
        scores,
        about=about or None,
    )


METHODS: Registry[Method] = Registry(
    "sparsifier",
    "intaglio.sparsifiers",
    "intaglio.passes.sparsify.methods",
    of=Method,
    offers=(SECOND_MOMENTS,),
    adapted=_adapted,
)


def scored(name: str, *, needs: tuple[str, ...] = ()) -> Callable[[Scores], Scores]:
    """Register a function that scores weights. The first line of its docstring is shown to users, the paper is named below it."""

    def add(scores: Scores) -> Scores:
        METHODS.register(name, needs=needs)(_adapted(scores, name))
        return scores

    return add
