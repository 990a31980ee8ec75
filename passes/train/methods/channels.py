"""Methods that drive whole channels toward zero, for a pruning that comes after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from ....graph.coupling import Coupling, analyse
from ....graph.coupling.groups import owners
from ....graph.coupling.labels import Why
from ....graph.errors import UsageError
from ....graph.traits import Trait, has
from .method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.student import Student

Stand = tuple[str, int, np.ndarray, np.ndarray]
"""A weight, the axis that channels stand on, entries along it and the channel of each."""


class SparsityOptions(BaseModel):
    strength: float = Field(default=5e-4, gt=0, description="how much of a weight is added to its gradient, at least")


class _Towards(Method):
    """What is driven to zero is no better by the loss: the last weights are kept."""

    def __init__(self, options: SparsityOptions) -> None:
        self._strength = options.strength

    def done(self, progress: float) -> bool:
        return progress >= 1


@METHODS.register("group-sparsity", options=SparsityOptions)
class GroupSparsity(_Towards):
    """Shrink all weights of coupled channels together, those of the smallest channels up to 16 times as much.

    Source: Fang et al., "DepGraph: towards any structural pruning", CVPR 2023, arXiv:2301.12900.
    """

    def start(self, student: Student) -> None:
        self._groups = [_standing(stands, student) for stands in _groups(analyse(student.model))]

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        for stands in self._groups:
            if stands:
                self._shrink(student, stands)

    def _shrink(self, student: Student, stands: list[Stand]) -> None:
        import torch

        sizes = torch.zeros(max(int(channel.max()) for *_, channel in stands) + 1)
        for name, axis, entries, channel in stands:
            rows = student.moving[name].detach().movedim(axis, 0)[torch.from_numpy(entries)].reshape(len(entries), -1)
            sizes.index_add_(0, torch.from_numpy(channel), rows.square().sum(1))
        sizes = sizes.sqrt()
        gamma = 2 ** (4 * (sizes.max() - sizes) / (sizes.max() - sizes.min()).clamp_min(1e-12))
        for name, axis, entries, channel in stands:
            tensor, at = student.moving[name], torch.from_numpy(entries)
            if tensor.grad is not None:
                rows = tensor.detach().movedim(axis, 0)[at]
                more = gamma[torch.from_numpy(channel)].reshape(-1, *[1] * (rows.ndim - 1)) * rows
                tensor.grad.movedim(axis, 0).index_add_(0, at, more, alpha=self._strength)


@METHODS.register("slimming", options=SparsityOptions)
class Slimming(_Towards):
    """Draw the scales of BatchNormalization to zero, each alike: ``prune --criterion bn-scale`` then takes the smallest.

    Source: Liu et al., "Learning efficient convolutional networks through network slimming", ICCV 2017, arXiv:1708.06519.
    """

    def start(self, student: Student) -> None:
        nodes = [node for node in student.model.graph.node if has(node, Trait.STANDARDIZES)]
        self._names = list(dict.fromkeys(node.input[1] for node in nodes if node.input[1] in student.moving))
        if not self._names:
            raise UsageError(
                "slimming needs BatchNormalization, and the model has none whose scale is trained",
                fix="use --method group-sparsity, or a model in which it was not folded away",
            )

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        import torch

        return self._strength * torch.stack([student.moving[name].abs().sum() for name in self._names]).sum()


def _groups(coupling: Coupling) -> list[list[Stand]]:
    """For each group that may be pruned, where its channels stand."""
    owner, found = owners(coupling, coupling.groups), [list[Stand]() for _ in coupling.groups]
    for name, weight in coupling.model.weights.items():
        for axis, labels in enumerate(coupling.axes(name) if weight.ndim else ()):
            if isinstance(labels, Why):
                continue
            entries, atoms = coupling.solution.meets(labels)
            for number in np.unique(owner[atoms]):
                mine = owner[atoms] == number
                channel = np.searchsorted(coupling.groups[number].atoms, atoms[mine])
                found[number].append((name, axis, np.asarray(entries[mine]), channel))
    return [stands for group, stands in zip(coupling.groups, found, strict=True) if group.prunable]


def _standing(stands: list[Stand], student: Student) -> list[Stand]:
    """Those on weights that are trained as floats."""
    return [one for one in stands if one[0] in student.moving and one[0] not in student.codes]
