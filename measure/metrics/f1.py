"""F1: the harmonic mean of precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from ...graph.errors import BadData
from ..accuracy import METRICS, class_labels
from .named import Output, chosen


class Averaged(Output):
    """Options of ``f1``."""

    average: Literal["macro", "micro"] = Field(
        default="macro", description="mean over classes, each counting alike, or of all answers together"
    )
    threshold: float | None = Field(
        default=None, description="scores above it say yes, each for itself: for labels of 0 and 1, one for each score"
    )


@METRICS.register("f1", options=Averaged, needs=("classes",))
class F1:
    """Harmonic mean of precision and recall: the mean over classes that occur, or of all answers with f1:average=micro.

    Scores are (samples, classes, ...), labels (samples, ...): with more axes there is an answer for each pixel. With a
    threshold labels are 0 or 1 for each score, and a sample has any number of classes.
    """

    def __init__(self, options: Averaged) -> None:
        self.options = options
        self._counts: np.ndarray = np.zeros((3, 0), np.int64)

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        scores = chosen(outputs, self.options.output, _scores, "one score per class, (samples, classes, ...)")
        given, wanted = self._yes(scores, labels)
        axes = (0, *range(2, given.ndim))
        counts = np.stack([one.sum(axis=axes) for one in (given & wanted, given, wanted)])
        self._counts = counts + (self._counts if self._counts.size else 0)

    def _yes(self, scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which classes the model and the labels name. Shapes: both (samples, classes, ...)."""
        if self.options.threshold is not None:
            if labels.size != scores.size or not np.isin(labels, (0, 1)).all():
                why = f"the scores have shape {scores.shape}, the labels {labels.shape}"
                raise BadData("with a threshold labels are 0 or 1 for each score", why=why)
            return scores > self.options.threshold, labels.reshape(scores.shape) > 0
        classes = scores.shape[1]
        places = (len(scores), *scores.shape[2:])
        flat = labels.reshape(-1) if labels.size == np.prod(places) else labels
        numbers = class_labels(flat, classes).reshape(places)
        every = np.arange(classes).reshape(-1, *[1] * (scores.ndim - 2))
        return scores.argmax(axis=1)[:, None] == every, numbers[:, None] == every

    def result(self) -> float:
        right, given, wanted = self._counts.sum(axis=1, keepdims=True) if self._micro else self._counts
        occur = given + wanted > 0
        return float((2 * right[occur] / (given + wanted)[occur]).mean()) if occur.any() else 0.0

    @property
    def _micro(self) -> bool:
        return self.options.average == "micro"


def _scores(output: np.ndarray) -> bool:
    return output.dtype.kind in "fiu" and output.ndim >= 2 and output.shape[1] >= 2
