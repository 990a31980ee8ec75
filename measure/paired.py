"""What one model loses against another on the same samples, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..graph.errors import BadData, BadModel, UsageError
from .accuracy import Evaluation, Scoring
from .data.source import Batch, DataSource
from .worth import POINTS, SHARE, Worth

CONFIDENCE = 0.95
_Z = 1.959964
_RESAMPLES = 2000
_HELD = 1 << 22


@dataclass(frozen=True)
class Drop:
    """Points that a metric lost, and between which two the loss of all such data lies with a confidence of 95 %.

    ``unit`` says whether they are percent of what was before instead. The limits are NaN where nothing is known of single
    samples. ``lost`` and ``won`` count samples that one model alone has right, ``p_value`` is that of there being no
    difference: None for metrics that score a sample by more than right and wrong.
    """

    points: float
    low: float
    high: float
    samples: int
    lost: int | None = None
    won: int | None = None
    p_value: float | None = None
    unit: str = POINTS
    better: str = "larger"

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Drop:
        """From what ``as_dict`` gives."""
        known = {one.name: told[one.name] for one in fields(cls) if one.name in told}
        numbers = {"points": math.inf, "low": math.nan, "high": math.nan}
        return cls(**{**known, **{key: value for key, value in numbers.items() if told[key] is None}})

    @property
    def clear(self) -> bool:
        """Whether the data tell the two models apart."""
        return self.low > 0 or self.high < 0

    @property
    def change(self) -> str:
        """What became of the number, with its sign."""
        return self._signed(self.points)

    @property
    def between(self) -> str:
        """The same for the two that it lies between; empty where they are not known."""
        if math.isnan(self.low):
            return ""
        low, high = sorted((self.low, self.high), reverse=self.better == "larger")
        return f"{self._signed(low).removesuffix(f' {self.unit}')} to {self._signed(high)}"

    def _signed(self, lost: float) -> str:
        return f"{lost if self.better == 'smaller' else 0.0 - lost:+.2f} {self.unit}"

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

    def __init__(self, names: Sequence[str] = (), *, usual: bool = True, must: bool = False) -> None:
        """``must`` raises what speaks against scoring."""
        self._both, self._must, self.why = (Scoring(names, usual=usual), Scoring(names, usual=usual)), must, ""

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
        return [] if self.why else [scoring.evaluation(source.name) for scoring in self._both]


def drops(before: Evaluation, after: Evaluation, *, seed: int = 0) -> dict[str, Drop]:
    """By metric. The evaluations are of the same samples in the same order."""
    return {name: _drop(name, before, after, seed) for name in before.values if name in after.values}


def _drop(name: str, before: Evaluation, after: Evaluation, seed: int) -> Drop:
    worth = before.worth.get(name, SHARE)
    lost = worth.lost(before.values[name], after.values[name])
    for kept in ("scores", "parts"):
        old, new = (getattr(one, kept).get(name) for one in (before, after))
        if old is None or new is None or len(old) != len(new) or not len(old) or not np.isfinite([*old, *new]).all():
            continue
        if worth == SHARE and kept == "scores" and ({*np.unique(old)} | {*np.unique(new)}) <= {0.0, 1.0}:
            return mcnemar(old, new)
        return replace(bootstrap(old, new, worth, seed=seed), points=lost)
    return Drop(lost, math.nan, math.nan, before.samples, unit=worth.unit, better=worth.better)


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


def bootstrap(old: np.ndarray, new: np.ndarray, worth: Worth = SHARE, *, seed: int = 0) -> Drop:
    """Of scores, or of quotients of sums: percentiles of the loss over samples that are drawn anew.

    Shapes: both (samples,), of which the mean counts, or (samples, 2), of which the quotient of the sums does.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    both = np.concatenate([_parted(old), _parted(new)], axis=1)
    count, rng = len(both), np.random.default_rng(seed)
    rows = max(1, _HELD // count)
    drawn = [both[rng.integers(count, size=(rows, count))].sum(1) for _ in range(-(-_RESAMPLES // rows))]
    losses = _losses(np.concatenate(drawn)[:_RESAMPLES], worth)
    low, high = np.percentile(losses, [2.5, 97.5])
    points = float(_losses(both.sum(0)[None], worth)[0])
    return Drop(points, float(low), float(high), count, unit=worth.unit, better=worth.better)


def _parted(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1) if values.ndim == 1 else values


def _losses(sums: np.ndarray, worth: Worth) -> np.ndarray:
    """Shapes: sums (draws, 4), the result (draws,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.stack([sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]])
    before, after = np.exp(told) if worth.exponential else told
    return np.array([worth.lost(*pair) for pair in zip(before.tolist(), after.tolist(), strict=True)])


def losses(report: Mapping[str, Any]) -> dict[str, Drop]:
    """What each metric lost, of a report as plain data."""
    found = report.get("accuracy") or {}
    told, after, before = found.get("drop") or {}, found.get("after", {}), found.get("before", {})
    lost = {}
    for name in before:
        drop = Drop.of(told[name]) if name in told else Drop(math.inf, math.nan, math.nan, 0)
        if None not in (before[name], after.get(name)):
            worth = Worth(drop.better == "smaller", drop.unit == POINTS)
            drop = replace(drop, points=worth.lost(before[name], after[name]))
        lost[name] = drop
    return lost


def told(name: str, drop: Drop, limit: float | None = None) -> str:
    """The loss in a sentence, and whether the data are too few to tell."""
    words = ("gains", "loses") if drop.unit == POINTS else ("is better by", "is worse by")
    what = f"{name} {words[drop.points >= 0]} {abs(drop.points):.2f} {drop.unit} on {drop.samples:,} samples"
    if math.isnan(drop.low):
        return what
    on = f"{what}; the loss is {drop.low:.2f} to {drop.high:.2f} with 95 % confidence"
    if limit is not None and (enough := drop.enough_for(limit)):
        return f"{on}: too few to tell whether it loses more than {limit:g}; about {enough:,} would"
    return on if drop.clear else f"{on}: too few to tell whether it loses any"
