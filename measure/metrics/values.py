"""How near numbers come to what they should be: of regressions, images, embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial

import numpy as np
from pydantic import Field

from ...graph.errors import BadData
from ..accuracy import METRICS
from .named import Output, chosen


class _EachSample(ABC):
    """The mean of a score of each sample, of the output of the labels' shape."""

    share = False

    def __init__(self, options: Output) -> None:
        self.options, self._scores = options, [np.zeros(0)]

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        what = f"numbers of the labels' shape, {labels.shape}"
        given = chosen(outputs, self.options.output, partial(_alike, labels), what)
        if labels.dtype.kind not in "fiub":
            raise BadData(f"the labels are no numbers: {labels.dtype}")
        rows, wanted = (array.astype(np.float64).reshape(len(labels), -1) for array in (given, labels))
        self._scores.append(self.scored(rows, wanted, labels.dtype))

    @abstractmethod
    def scored(self, given: np.ndarray, wanted: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Shapes: both (samples, numbers), the result (samples,). ``dtype`` is that of the labels."""

    def scores(self) -> np.ndarray:
        return np.concatenate(self._scores)

    def result(self) -> float:
        return float(self.scores().mean())


def _alike(labels: np.ndarray, output: np.ndarray) -> bool:
    """Axes of length one do not count."""
    same = [d for d in output.shape[1:] if d != 1] == [d for d in labels.shape[1:] if d != 1]
    return output.dtype.kind in "fiubV" and len(output) == len(labels) and same


@METRICS.register("mse", options=Output, needs=("values",))
class SquaredError(_EachSample):
    """Mean squared error; smaller is better."""

    smaller_is_better = True

    def scored(self, given: np.ndarray, wanted: np.ndarray, dtype: np.dtype) -> np.ndarray:
        return np.asarray(np.square(given - wanted).mean(axis=1))


class Peak(Output):
    """Options of ``psnr``."""

    peak: float | None = Field(
        default=None, gt=0, description="the largest value there can be; 255 of labels that are integers, 1 of others"
    )


@METRICS.register("psnr", options=Peak, needs=("values",))
class PeakRatio(_EachSample):
    """Peak signal to noise ratio of each sample in dB, the mean over samples."""

    options: Peak

    def scored(self, given: np.ndarray, wanted: np.ndarray, dtype: np.dtype) -> np.ndarray:
        peak = self.options.peak or (255.0 if dtype.kind in "iu" else 1.0)
        with np.errstate(divide="ignore"):
            return np.asarray(10 * np.log10(peak**2 / np.square(given - wanted).mean(axis=1)))


@METRICS.register("cosine", options=Output, needs=("values",))
class Cosine(_EachSample):
    """Cosine of the angle between output and label, the mean over samples; of two zeros it is 1."""

    share = True

    def scored(self, given: np.ndarray, wanted: np.ndarray, dtype: np.dtype) -> np.ndarray:
        long, right = np.linalg.norm(given, axis=1), np.linalg.norm(wanted, axis=1)
        with np.errstate(invalid="ignore"):
            found = (given * wanted).sum(axis=1) / (long * right)
        return np.where(long * right == 0, (long == right).astype(np.float64), found)
