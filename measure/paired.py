"""What one model loses against another on the same samples, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..graph.errors import BadData, BadModel, UsageError
from .accuracy import Evaluation, Scoring
from .data.source import Batch, DataSource

CONFIDENCE = 0.95
_Z = 1.959964
_RESAMPLES = 2000
_HELD = 1 << 22


@dataclass(frozen=True)
class Drop:
    """Points that a metric lost, and between which two the loss of all such data lies with a confidence of 95 %.

    ``lost`` and ``won`` count samples that one model alone has right, ``p_value`` is that of there being no difference:
    None for metrics that score a sample by more than right and wrong.
    """

    points: float
    low: float
    high: float
    samples: int
    lost: int | None = None
    won: int | None = None
    p_value: float | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Drop:
        """From what ``as_dict`` gives."""
        return cls(**{one.name: told[one.name] for one in fields(cls)})

    @property
    def clear(self) -> bool:
        """Whether the data tell the two models apart."""
        return not self.low <= 0 <= self.high

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "confidence": CONFIDENCE}

    def enough_for(self, limit: float) -> int | None:
        """About how many samples would tell whether the loss is below the limit; None where these do."""
        if not self.low <= limit < self.high:
            return None
        away = max(abs(limit - self.points), 0.1)
        return math.ceil(self.samples * ((self.high - self.low) / 2 / away) ** 2)


class PairedScoring:
    """Both models' accuracy in the making. Where nothing can be scored, ``why`` says so and the rest goes on."""

    def __init__(self, names: Sequence[str] = (), *, must: bool = False) -> None:
        """``must`` raises what speaks against scoring."""
        self._both, self._must, self.why = (Scoring(names, usual=True), Scoring(names, usual=True)), must, ""

    def add(self, piece: Batch, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
        if self.why or (piece.labels is None and not self._must):
            return
        try:
            for scoring, outputs in zip(self._both, (a, b), strict=True):
                scoring.add(piece, outputs)
        except (BadData, BadModel, UsageError) as error:
            if self._must:
                raise
            self.why = f"accuracy is not measured: {error.what}"

    def evaluations(self, source: DataSource) -> list[Evaluation]:
        return [] if self.why else [scoring.evaluation(source) for scoring in self._both]


def drops(before: Evaluation, after: Evaluation, *, seed: int = 0) -> dict[str, Drop]:
    """By metric, of those that score each sample. The evaluations are of the same samples in the same order."""
    found = {}
    for name, old in before.scores.items():
        new = after.scores.get(name)
        if new is not None and len(new) == len(old) and len(old):
            right = ({*np.unique(old)} | {*np.unique(new)}) <= {0.0, 1.0}
            found[name] = mcnemar(old, new) if right else bootstrap(old, new, seed=seed)
    return found


def mcnemar(old: np.ndarray, new: np.ndarray) -> Drop:
    """Of right and wrong answers.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947 (the test, in its exact form); Agresti and Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 2005 (half a sample is added to each of four cells).
    """
    from scipy.special import bdtr

    lost, won = int((old > new).sum()), int((new > old).sum())
    discordant, n = lost + won, len(old)
    p_value = min(1.0, 2 * float(bdtr(min(lost, won), discordant, 0.5))) if discordant else 1.0
    a, b, m = lost + 0.5, won + 0.5, n + 2
    middle, half = (a - b) / m, _Z * math.sqrt(a + b - (a - b) ** 2 / m) / m
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Drop(100 * (lost - won) / n, 100 * low, 100 * high, n, lost, won, p_value)


def bootstrap(old: np.ndarray, new: np.ndarray, *, seed: int = 0) -> Drop:
    """Of scores: percentiles of the mean difference over samples that are drawn anew.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    gap, rng = old - new, np.random.default_rng(seed)
    rows = max(1, _HELD // len(gap))
    means = [gap[rng.integers(len(gap), size=(rows, len(gap)))].mean(1) for _ in range(-(-_RESAMPLES // rows))]
    low, high = np.percentile(np.concatenate(means)[:_RESAMPLES], [2.5, 97.5])
    return Drop(100 * float(gap.mean()), 100 * float(low), 100 * float(high), len(gap))


def told(name: str, drop: Drop, limit: float | None = None) -> str:
    """The loss in a sentence, and whether the data are too few to tell."""
    what = f"{name} {'gains' if drop.points < 0 else 'loses'} {abs(drop.points):.2f} points"
    on = f"{what} on {drop.samples:,} samples; the loss is {drop.low:.2f} to {drop.high:.2f} with 95 % confidence"
    if limit is not None and (enough := drop.enough_for(limit)):
        return f"{on}: too few to tell whether it loses more than {limit:g}; about {enough:,} would"
    return on if drop.clear else f"{on}: too few to tell whether it loses any"
