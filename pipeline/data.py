"""The data of a run: what a user names, opened for the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from types import NoneType

from ..graph.errors import UsageError
from ..graph.model import Model
from ..measure.accuracy import METRICS
from ..measure.data.source import DataSource, open_data
from ..measure.run.batch import open_for_batches
from ..passes.base import Pass

Named = str | PathLike[str] | DataSource
"""Data by its name, as ``--data`` takes it, or opened already."""
_NOISE_SAMPLES, _DISTILLED = 512, 128


@dataclass(frozen=True)
class Data:
    """Calibration data and labelled data. ``samples`` limits the former, or the latter where that is all there is.

    ``metrics`` are what is measured on labelled data, the usual ones if none is named; the first is the accuracy.
    """

    calibration: Named | None = None
    labelled: Named | None = None
    preprocess: str | None = None
    samples: int | None = None
    seed: int = 0
    metrics: Sequence[str] = ()

    def __post_init__(self) -> None:
        for named in (self.calibration, self.labelled):
            if not isinstance(named, (str, PathLike, DataSource, NoneType)):
                raise UsageError(
                    f"a {type(named).__name__} is no data to open",
                    fix="give a path, package.module:callable, or what open_data returns",
                )
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"samples {self.samples} is out of range", fix="give a number from 1")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is out of range", fix="give a number from 0")
        if self.metrics and self.labelled is None:
            raise UsageError(f"metric {self.metrics[0]} needs labelled data", fix="add --eval-data SOURCE")
        for name in self.metrics:
            METRICS[name]()  # to find out before long work

    def for_many_samples(self, model: Model, passes: Sequence[Pass]) -> tuple[Model, Callable[[Model], None]]:
        """The model to work with, taking many samples a run if it can where there are data; and what undoes that."""
        made_up = any(getattr(step, "dialect", None) for step in passes)
        return open_for_batches(model) if self.calibration or self.labelled or made_up else (model, lambda _: None)

    def open_labelled(self, model: Model, passes: Sequence[Pass]) -> DataSource | None:
        alone = self.calibration is None and not any(step.makes_noise for step in passes)
        return self._opened(self.labelled, model, self.samples if alone else None)

    def open_calibration(self, model: Model) -> DataSource | None:
        return self._opened(self.calibration, model, self.samples)

    def made_up(self, model: Model, dialect: str) -> DataSource:
        """Made-up inputs. Raises UsageError where there are real ones."""
        from ..passes.calibration.distilled import distilled_source
        from ..passes.calibration.noise import noise_source

        if self.calibration is not None:
            raise UsageError(
                f"--dialect {dialect} runs without data", fix="leave out --data, or name the dialect id or ood"
            )
        make, count = (distilled_source, _DISTILLED) if dialect == "distilled" else (noise_source, _NOISE_SAMPLES)
        return make(model, samples=self.samples or count, preprocess=self.preprocess, seed=self.seed)

    def _opened(self, named: Named | None, model: Model, samples: int | None) -> DataSource | None:
        if named is None or isinstance(named, DataSource):
            return named
        return open_data(str(named), model, preprocess=self.preprocess, samples=samples)
