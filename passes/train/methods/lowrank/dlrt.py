"""Dynamical low-rank training: factors are trained on the manifold of their rank, and the rank follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .....graph.errors import NothingChanged
from .....graph.index import index_of
from .....graph.layer import Layer
from .....graph.layers import Layers
from .....graph.nodes import refill
from ..method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from .....graph.model import Model
    from ...engine.student import Student


class Dynamical(BaseModel):
    tolerance: float = Field(
        default=0.1, gt=0, lt=1, description="share of the norm of the singular values that may be cut off in each step"
    )
    rate: float = Field(default=0.05, gt=0, description="step size of factors, which falls along a cosine")
    least: int = Field(default=1, ge=1, description="fewest ranks of a layer")


@dataclass
class Factors:
    """Two layers in a row whose product is ``u s vᵀ``; ``given`` are the two weights as the network is to see them now.

    Shapes: u (outputs, ranks), s (ranks, ranks), v (inputs, ranks).
    """

    first: Layer
    second: Layer
    u: Tensor
    s: Tensor
    v: Tensor
    given: tuple[Tensor, Tensor]

    def put(self) -> None:
        self.given = (self.s @ self.v.T, self.u)


@METHODS.register("dlrt", options=Dynamical)
class DynamicalRanks(Method):
    """Factors that ``factorize`` made move one at a time, in a common basis of old and new directions; ranks fall where they may.

    Source: Schotthöfer et al., Low-rank lottery tickets, NeurIPS 2022, arXiv:2205.13571. Steps of K and L are of one gradient
    each, that of S is the third: three runs for each batch.
    """

    def __init__(self, options: Dynamical) -> None:
        self.options = options
        self.pairs: list[Factors] = []
        self._by_weight: dict[str, tuple[Factors, int]] = {}

    def start(self, student: Student) -> None:
        import torch

        for k, (first, second) in enumerate(_pairs(student)):
            a, b = (_ranks_first(student.moving[one.weight].detach(), axis) for one, axis in _axes(first, second))
            q, r = torch.linalg.qr(b.T)
            p, t = torch.linalg.qr(a.T)
            left, values, right = torch.linalg.svd(r @ t.T)
            one = Factors(first, second, q @ left, torch.diag(values), p @ right.T, (a, b.T))
            one.put()
            self.pairs.append(one)
            self._by_weight |= {first.weight: (one, 0), second.weight: (one, 1)}
            for name, value in (("u", one.u), ("s", one.s), ("v", one.v), ("rank", torch.tensor(len(values)))):
                student.add(f"{name}/{k}", value.clone())
        if not self.pairs:
            raise NothingChanged(
                "there are no factors to train: no layer is followed by another one alone, without a bias between",
                fix="make them first with: intaglio factorize MODEL -o FACTORS --energy 0.99",
            )
        student.freeze(self._by_weight)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if name not in self._by_weight:
            return value
        if not student.training:
            self._read(student)
        one, which = self._by_weight[name]
        _, axis = _axes(one.first, one.second)[which]
        matrix = one.given[which]
        return _like(matrix if which == 0 else matrix.T, value, axis)

    def _read(self, student: Student) -> None:
        """From what the student keeps, which may have been restored."""
        for k, one in enumerate(self.pairs):
            rank = int(student.own[f"rank/{k}"])
            one.u, one.v = (student.own[f"{name}/{k}"][:, :rank] for name in "uv")
            one.s = student.own[f"s/{k}"][:rank, :rank]
            one.put()

    def _keep(self, student: Student) -> None:
        for k, one in enumerate(self.pairs):
            rank = one.s.shape[0]
            for name, value in (("u", one.u), ("s", one.s), ("v", one.v)):
                held = student.own[f"{name}/{k}"]
                held.zero_()
                held[: value.shape[0], :rank] = value
            student.own[f"rank/{k}"].fill_(rank)

    def before_step(self, student: Student, step: int, steps: int) -> None:
        """The first gradient is that of K = U S."""
        self._read(student)
        for one in self.pairs:
            one.given = (one.v.T, (one.u @ one.s).requires_grad_())

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        rate = self.options.rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        left = [_moved(one.given[1], rate) for one in self.pairs]
        for one in self.pairs:
            one.given = ((one.s @ one.v.T).requires_grad_(), one.u)
        again()
        right = [_moved(one.given[0], rate).T for one in self.pairs]
        cores = [_augment(one, k, m) for one, k, m in zip(self.pairs, left, right, strict=True)]
        again()
        for one, core in zip(self.pairs, cores, strict=True):
            self._truncate(one, _moved(core, rate))
        self._keep(student)

    def _truncate(self, one: Factors, core: Tensor) -> None:
        import torch

        left, values, right = torch.linalg.svd(core)
        tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
        rank = int((tails > self.options.tolerance * tails[0]).sum())
        most = min(one.first.outputs, one.u.shape[0], one.v.shape[0])
        rank = min(max(rank, self.options.least), most)
        one.u, one.v = one.u @ left[:, :rank], one.v @ right[:rank].T
        one.s = torch.diag(values[:rank])
        one.put()

    def finished(self, model: Model, student: Student) -> Model:
        """Ranks between two layers changed."""
        inner = {one.first.output for one in self.pairs}
        refill(model.graph.value_info, [v for v in model.graph.value_info if v.name not in inner])
        return model

    def done(self, progress: float) -> bool:
        return progress > 0


def _moved(value: Tensor, rate: float) -> Tensor:
    """One step down the gradient."""
    assert value.grad is not None, "the network has seen it"
    return value.detach() - rate * value.grad


def _augment(one: Factors, left: Tensor, right: Tensor) -> Tensor:
    """Bases of old and new directions, and the core in them, whose gradient is asked for next."""
    import torch

    u, v = (torch.linalg.qr(torch.cat(pair, 1))[0] for pair in ((left, one.u), (right, one.v)))
    core = ((u.T @ one.u) @ one.s @ (one.v.T @ v)).requires_grad_()
    one.u, one.v = u, v
    one.given = (core @ v.T, u)
    return core


def _axes(first: Layer, second: Layer) -> tuple[tuple[Layer, int], tuple[Layer, int]]:
    """The layers with the axis of their weights along which ranks stand."""
    return (first, first.axis), (second, 1 if second.window else 1 - second.axis)


def _ranks_first(weight: Tensor, axis: int) -> Tensor:
    """Shapes: -> (ranks, all else)."""
    return weight.movedim(axis, 0).flatten(1)


def _like(matrix: Tensor, weight: Tensor, axis: int) -> Tensor:
    """The inverse, for any number of ranks."""
    shape = [n for a, n in enumerate(weight.shape) if a != axis]
    return matrix.reshape(len(matrix), *shape).movedim(0, axis)


def _pairs(student: Student) -> list[tuple[Layer, Layer]]:
    layers, index = Layers(student.model), index_of(student.model)
    by_input: dict[str, list[Layer]] = {}
    for one in layers:
        by_input.setdefault(one.x, []).append(one)
    found: list[tuple[Layer, Layer]] = []
    for first in layers:
        behind = by_input.get(first.output, [])
        taken = {one.node for pair in found for one in pair}
        if len(behind) != 1 or index.uses[first.output] != 1 or first.bias is not None or first.node in taken:
            continue
        both = (first, behind[0])
        if all(one.groups == 1 and one.weight in student.moving and not layers.tied(one) for one in both):
            found.append(both)
    return found
