"""Ways to train: what each makes small, and what it does between steps.

Third parties add one through the entry point group ``intaglio.trainers``. Methods import torch where they run, not before.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.student import Student


class Method(ABC):
    """``losses`` are those for outputs that score classes, ``otherwise`` those for others. One is made for each run."""

    losses: ClassVar[tuple[str, ...]]
    otherwise: ClassVar[tuple[str, ...]] = ()

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        """What is added to the loss of a step. ``progress`` goes from 0 to 1."""
        return None

    def done(self, progress: float) -> bool:
        """Whether weights are what the method is to give, so that they may be kept; those of the start count if so at 0."""
        return True

    def after_step(self, student: Student, step: int, steps: int) -> None:
        """What is done to weights once they have moved; ``step`` counts from 0."""
        return


METHODS: Registry[type[Method]] = Registry(
    "method of training", "intaglio.trainers", "intaglio.passes.train.methods", of=type
)
"""Those with options get them by the keyword ``options`` when they are made."""
