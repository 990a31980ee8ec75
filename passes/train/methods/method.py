"""Ways to train: what each makes small, and what it does between steps.

Third parties add one through the entry point group ``intaglio.trainers``. Methods import torch where they run, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from ....graph.model import Model
    from ....measure.data.source import DataSource
    from ..losses.loss import Answers
    from ..weights import Weight

Student = Any
"""``engine.student.Student``, which imports this module."""


class Method:
    """``losses`` are those for outputs that score classes, ``otherwise`` those for others; where neither is said, those of
    ``distill`` with a teacher and of ``finetune`` without. One is made for each run.

    Of what a method keeps from step to step, tensors go into ``Student.add`` and masks into ``Student.masks``: so they are
    in checkpoints, and come back with the best weights. ``step`` counts from 0, ``progress`` goes from 0 to 1.
    """

    losses: ClassVar[tuple[str, ...]] = ()
    otherwise: ClassVar[tuple[str, ...]] = ()

    def prepared(self, model: Model, data: DataSource) -> Model:
        """The graph that is trained in the place of the model."""
        return model

    def finished(self, model: Model, student: Student) -> Model:
        """What is written: of the graph that was trained, with its best weights in it."""
        return model

    def also(self, model: Model, weights: Sequence[Weight]) -> Sequence[str]:
        """Float weights beside those that are trained for which ``seen`` is asked, too: ``Student.given``."""
        return ()

    def operators(self) -> Mapping[str, Callable[[Any], Any]]:
        """Definitions in torch, by operator, in the place of the usual ones: ``measure.autograd.call.OPERATORS``."""
        return {}

    def features(self, model: Model) -> Sequence[str]:
        """Inner tensors that ``loss`` finds in ``answers.features``."""
        return ()

    def start(self, student: Student) -> None:
        """What is done before the first step, or before a checkpoint is read."""
        return

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        """What the network computes with, and what is written, in the place of the weight ``name``; gradients flow through."""
        return value

    def penalty(self, student: Student, progress: float) -> Tensor | None:
        """What is added to the loss of a step, of weights alone."""
        return None

    def judged(self, answers: Answers, progress: float) -> Answers:
        """What losses get in training: of some samples alone, for instance."""
        return answers

    def loss(self, student: Student, answers: Answers, progress: float) -> Tensor | None:
        """What is added to the loss of a step, of what the model gave."""
        return None

    def pace(self, progress: float) -> float | None:
        """The step size beside its highest; None for the usual rise and fall."""
        return None

    def done(self, progress: float) -> bool:
        """Whether weights are what the method is to give, so that they may be kept; those of the start count if so at 0."""
        return True

    def before_step(self, student: Student, step: int, steps: int) -> None:
        """What is done before the model is run."""
        return

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        """What is done to gradients, before they are clipped; ``again`` computes those of the same samples anew."""
        return

    def after_step(self, student: Student, step: int, steps: int) -> None:
        """What is done to weights once they have moved."""
        return

    def after_round(self, student: Student, step: int, steps: int) -> None:
        """What is done, behind ``after_step``, once all samples were seen again."""
        return


METHODS: Registry[type[Method]] = Registry(
    "method of training", "intaglio.trainers", "intaglio.passes.train.methods", of=type
)
"""Those with options get them by the keyword ``options`` when they are made."""
