"""Binary networks whose filters are like each other, so that one follows from the next in few operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from .....measure.bit_order import MOST_ROWS, spanning_tree
from ..method import METHODS
from .bnn import LATENT, Binarizing, BinaryOptions

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class TreeOptions(BinaryOptions):
    strength: float = Field(default=1.0, gt=0, description="of the mean distance along trees, beside the losses")
    every: int = Field(default=10, ge=1, description="steps after which trees are sought again")


@METHODS.register("mst", options=TreeOptions)
class Neighbours(Binarizing):
    """As ``bnn``; filters beside each other on a minimum spanning tree are drawn together: ``inspect --bits`` tells what it saves.

    Source: Vo et al., "MST-compression", ICCV 2023, arXiv:2308.13735. Differs: its loss is not published in full; here it is
    the share of places at which neighbours differ, of hyperbolic tangents in the place of signs.
    """

    def __init__(self, options: TreeOptions) -> None:
        super().__init__(options)
        self._strength, self._every = options.strength, options.every

    def start(self, student: Student) -> None:
        import torch

        super().start(student)
        for name in self.in_trees(student):
            student.add(f"tree/{name}", torch.from_numpy(self._parents(student, name)))

    def in_trees(self, student: Student) -> list[str]:
        """Weights with filters enough for a tree, and not too many."""
        return [name for name, one in self.binary.items() if 1 < student.moving[name].shape[one.axis] <= MOST_ROWS]

    def rows(self, student: Student, name: str) -> Tensor:
        """Shapes: (filters, places)."""
        return student.moving[name].movedim(self.binary[name].axis, 0).flatten(1)

    def _parents(self, student: Student, name: str) -> np.ndarray:
        """The filter before each, itself for the root."""
        signs = np.where(self.rows(student, name).detach().numpy() < 0, -1, 1).astype(np.float32)
        parents = spanning_tree(signs).parent
        return np.where(parents < 0, np.arange(len(parents)), parents)

    def before_step(self, student: Student, step: int, steps: int) -> None:
        import torch

        super().before_step(student, step, steps)
        if step and step % self._every == 0:
            for name in self.in_trees(student):
                student.own[f"tree/{name}"].copy_(torch.from_numpy(self._parents(student, name)))

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        return self._strength * self.distance(student)

    def distance(self, student: Student) -> Tensor:
        """The mean share of places at which neighbours differ, of all layers."""
        import torch

        shares = []
        for name in self.in_trees(student):
            soft, parents = torch.tanh(self.rows(student, name) / LATENT), student.own[f"tree/{name}"]
            alike = (soft * soft[parents]).mean(1)[parents != torch.arange(len(parents))]
            shares.append((1 - alike).mean() / 2)
        return torch.stack(shares).mean() if shares else torch.zeros(())
