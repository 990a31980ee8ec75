"""What every pass is: frozen options and one ``run`` from a model to a change of it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..graph.io.fit import USUAL, Fit
from ..graph.model import Model
from ..graph.registry import Registry
from ..measure.executors.pieces import HERE, Pieces
from ..measure.worth import SHARE, Worth
from .change import Change
from .options import MADE_UP, Options

if TYPE_CHECKING:
    from ..measure.data.source import DataSource
    from .kept import Kept

PASSES: Registry[type[Pass]] = Registry("pass", "intaglio.passes", "intaglio.passes", of=type)


MEMORY = 1 << 29
"""Bytes of tensors that are held at once, unless a run is told otherwise."""
Evaluate = Callable[[Model], float]
"""Accuracy of a model, as a fraction."""


@dataclass(frozen=True)
class Accuracy:
    """How accuracy is measured, and what is ``lost`` between two of its numbers: in points, or in percent of the first."""

    evaluate: Evaluate
    worth: Worth = SHARE

    def __call__(self, model: Model) -> float:
        return self.evaluate(model)

    def lost(self, before: float, after: float) -> float:
        return round(self.worth.lost(before, after), 9)  # 6 of 600 samples are 1 point


@dataclass(frozen=True)
class Context:
    """What a pass may use beside the model.

    ``data`` is calibration data, ``eval_data`` labelled data, ``None`` if the user gave none: a pass never makes any up.
    ``evaluate`` measures accuracy in another way than by the first of the ``metrics``, or the share of labels that are
    right. ``tick`` is told how much is
    done, of how much (None if unknown). ``folder`` is for temporary files. ``memory`` is how many bytes of tensors are held
    at once: what is more is done in turns, or goes to files. ``fit`` is what the file of the
    result may need. ``kept`` has what another run of the same model and data worked out. ``pieces`` does what may be done
    apart, such as layers. ``resume`` is a folder for what
    layers became, so that a run that was ended goes on behind the last.
    """

    data: DataSource | None = None
    eval_data: DataSource | None = None
    evaluate: Evaluate | Accuracy | None = None
    metrics: Sequence[str] = ()
    seed: int = 0
    tick: Callable[[int, int | None], None] = lambda done, total: None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("intaglio"))
    folder: Path | None = None
    memory: int = MEMORY
    fit: Fit = USUAL
    kept: Kept | None = None
    pieces: Pieces = HERE
    resume: Path | None = None

    @property
    def inputs(self) -> DataSource | None:
        """Real inputs to look at outputs with: calibration data, else labelled data."""
        return self.data or self.eval_data

    def accuracy(self) -> Accuracy | None:
        """How accuracy is measured; None without labels to measure it on."""
        if self.evaluate is not None:
            return self.evaluate if isinstance(self.evaluate, Accuracy) else Accuracy(self.evaluate)
        if self.eval_data is None or not self.eval_data.labelled:
            return None
        from ..measure.accuracy import METRICS, evaluate_model

        source, name = self.eval_data, (*self.metrics, "top1")[0]
        worth = Worth.of(METRICS[name]())
        return Accuracy(lambda model: evaluate_model(model, source, names=[name]).values[name], worth)


class Pass(Options, ABC):
    """Base of all passes: its fields are its options. ``run`` never changes the model it is given.

    Same model, options and seed give the same bytes. ``doing`` is what a user is told while it runs; ``in_bodies`` says that
    bodies of If, Loop and Scan are changed, too, each as a model of its own; ``sees_through`` that weights which nodes
    compute from constants are there as values; ``smaller`` that its result should have fewer bytes; ``renames`` that nodes lose their names and change in nothing else;
    ``resumes`` that with data it goes on behind the last layer that a run before kept, ``resumes_blind`` without, too.
    """

    name: ClassVar[str]
    doing: ClassVar[str] = "working"
    in_bodies: ClassVar[bool] = False
    sees_through: ClassVar[bool] = False
    smaller: ClassVar[bool] = True
    renames: ClassVar[bool] = False
    resumes: ClassVar[bool] = False
    resumes_blind: ClassVar[bool] = False

    @abstractmethod
    def run(self, model: Model, context: Context | None = None) -> Change:
        """Apply the pass. Raises IntaglioError where the request cannot be met; the input stays as it was."""

    @property
    def elsewhere(self) -> str | None:
        """The target that the result is for, where that is not this machine: nothing is timed here then."""
        return None

    @property
    def makes_noise(self) -> str:
        """How calibration data is to be made up, because the user asked for that; empty where it is not."""
        dialect = getattr(self, "dialect", None)
        return dialect if dialect in MADE_UP else ""

    def imagines_with(self, model: Model) -> Model:
        """The model for which inputs are made up: another one where it knows more of them."""
        return model

    @property
    def allowed_drop(self) -> float | None:
        """Points of accuracy that it may lose, where the user said so."""
        most: float | None = getattr(self, "max_drop", None)
        return getattr(self, "keep", None) if getattr(self, "target", None) == "drop" else most

    @property
    def blind(self) -> str:
        """What it chooses by weights alone where there is no calibration data, though data would make that better."""
        return ""

    @property
    def weight_bits(self) -> float | None:
        """Bits that a weight has afterwards; None where that is not known before it is run."""
        return None

    def for_inputs(self, model: Model, preprocess: str | None) -> Pass:
        """The pass as it is without data, told how the model's inputs are preprocessed."""
        return self

    def read(self, model: Model) -> Model:
        """The model in a form that runtimes take; for what a file can hold beside that."""
        return model

    def written(self, model: Model) -> Model:
        """The result in the form that goes into a file, where no runtime takes that form."""
        return model

    def recipe(self, change: Change) -> dict[str, Any]:
        """The options as the file of a result tells them, ``change`` being what came of them: they ask for the same bytes
        wherever they are read.
        """
        told = {**self.model_dump(), **change.stated}
        return {name: value for name, value in told.items() if value not in (None, ())}
