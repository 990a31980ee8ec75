"""Where zeros may be: a registry of patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ...graph.errors import UsageError
from ...graph.layer import Floats, Layer
from ...graph.registry import Registry
from ..blocks import highest_in_blocks
from .options import N_OF_M

Mask = NDArray[np.bool_]


class Pattern(Protocol):
    """Chooses what stays. ``density`` is the only one that it can have; None where any goes."""

    @property
    def density(self) -> float | None: ...

    def unfit(self, layer: Layer) -> str:
        """Why a layer cannot have it; empty where it can."""

    def keep(self, scores: Floats, count: int) -> Mask:
        """The ``count`` weights of highest scores, as nearly as the pattern lets. Shapes: (groups, outputs, columns)."""


@runtime_checkable
class Placed(Protocol):
    """A pattern that has to know how a layer's weight lies in memory."""

    def of_layer(self, layer: Layer) -> Pattern:
        """The pattern for this layer."""


PATTERNS: Registry[Pattern] = Registry("pattern", "intaglio.patterns", "intaglio.passes.sparsify", of=object)


@dataclass(frozen=True)
class Anywhere:
    """Any weight of a layer may go."""

    density: float | None = None

    def unfit(self, layer: Layer) -> str:
        return ""

    def keep(self, scores: Floats, count: int) -> Mask:
        mask = np.zeros(scores.size, bool)
        mask[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
        return mask.reshape(scores.shape)


class Block(BaseModel):
    """Options of ``block``."""

    size: int = Field(default=4, ge=2, description="input channels that stay or go together")


@dataclass(frozen=True)
class Runs:
    """Runs of weights in a row, input channels side by side, stay or go together."""

    size: int = 4
    density: float | None = None

    def with_options(self, options: Block) -> Runs:
        return replace(self, size=options.size)

    def unfit(self, layer: Layer) -> str:
        return _uneven(layer, self.size)

    def keep(self, scores: Floats, count: int) -> Mask:
        runs = scores.reshape(*scores.shape[:-1], -1, self.size).sum(axis=-1)
        return np.repeat(Anywhere().keep(runs, round(count / self.size)), self.size, axis=-1)


@dataclass(frozen=True)
class Blocks:
    """Of each ``m`` weights in a row, input channels side by side, ``n`` stay.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, arXiv:2104.08378 (2:4, and what NVIDIA's tensor
    cores read); CABS, 2025, arXiv:2503.01874 (blocks such as 64:256).
    """

    n: int
    m: int

    @property
    def density(self) -> float:
        return self.n / self.m

    def unfit(self, layer: Layer) -> str:
        return _uneven(layer, self.m)

    def keep(self, scores: Floats, count: int) -> Mask:
        stay = max(self.n, round(self.m * count / scores.size))
        blocks = scores.reshape(*scores.shape[:-1], -1, self.m)
        rank = np.argsort(np.argsort(-blocks, axis=-1, kind="stable"), axis=-1)
        return np.asarray(rank < stay).reshape(scores.shape)


class Memory(BaseModel):
    """Options of ``memory``."""

    n: int = Field(default=2, ge=1, description="weights of a block that stay")
    m: int = Field(default=4, ge=2, description="weights of a block")


@dataclass(frozen=True)
class InMemory:
    """Of each ``m`` weights in a row as the file holds them ``n`` stay; a block that is cut short at the end keeps its share.

    Source: balanced sparsification of CABS, Yang et al., 2025, arXiv:2503.01874, which ``intaglio merge`` uses, too.
    """

    n: int = 2
    m: int = 4
    layer: Layer | None = None

    def with_options(self, options: Memory) -> InMemory:
        if options.n >= options.m:
            raise UsageError("pattern memory keeps all", fix="give an n below m, such as memory:n=64,m=256")
        return replace(self, n=options.n, m=options.m)

    @property
    def density(self) -> float:
        return self.n / self.m

    def of_layer(self, layer: Layer) -> InMemory:
        return replace(self, layer=layer)

    def unfit(self, layer: Layer) -> str:
        return ""

    def keep(self, scores: Floats, count: int) -> Mask:
        assert self.layer is not None
        stay = max(self.n, round(self.m * count / scores.size))
        held = self.layer.unfolded(scores, self.layer.shape)
        kept = highest_in_blocks(held.reshape(-1), stay, self.m).reshape(held.shape)
        return np.asarray(self.layer.folded(kept))


PATTERNS.register("any")(Anywhere())
PATTERNS.register("memory", options=Memory)(InMemory())
PATTERNS.register("block", options=Block)(Runs())


def _uneven(layer: Layer, size: int) -> str:
    return "" if layer.channels % size == 0 else f"its {layer.channels} input channels are no multiple of {size}"


def pattern_named(spec: str) -> Pattern:
    """Raises UsageError for a name that stands for nothing, and for blocks of which nothing or all stays."""
    if not re.fullmatch(N_OF_M, spec):
        return PATTERNS[spec]
    n, m = map(int, spec.split(":"))
    if not 0 < n < m:
        raise UsageError(f"pattern {spec} keeps nothing, or all", fix="write n:m with n below m, such as 2:4")
    return Blocks(n, m)
