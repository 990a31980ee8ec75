"""How often a model is right: metrics on labelled data.

A metric is a class that is filled batch by batch and then read. Third parties add one through the entry point group
``intaglio.metrics``, or name a function of their own as ``file.py:function``. One with a method ``scores`` also tells the
score of each sample, whose mean is the result, one with ``parts`` two columns whose sums it is a quotient of: then reports
say how sure a loss is. ``smaller_is_better`` and ``share`` say how the number reads: see ``Worth``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from ..graph.errors import BadData, IntaglioError, UsageError
from ..graph.model import Model
from ..graph.registry import Registry
from ..graph.spec import near
from .data.source import Batch, DataSource
from .executors.pieces import HERE, Pieces
from .metrics.named import Output
from .run.running import Tick, check_rows, run_batch
from .run.session import open_session
from .worth import Worth


class Metric(Protocol):
    """Takes the outputs for a batch with its labels, again and again; then tells one number.

    More is better, and the number a part of 1, unless the metric says otherwise: see ``Worth``.
    """

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None: ...

    def result(self) -> float: ...


_OTHER = (
    "for other tasks name a metric with --metric: mse, map, perplexity, others that intaglio passes lists, or your own"
)


def of_function(function: Any, name: str) -> Callable[[], Metric]:
    """The metric that a function of the user's is; a class with ``add`` and ``result`` is one already."""
    if isinstance(function, type):
        if missing := [one for one in ("add", "result") if not hasattr(function, one)]:
            raise UsageError(f"metric {name!r} has no {missing[0]}", fix="a class needs the methods add and result")
        return function
    return lambda: Own(function, name)


class Own:
    """A function of outputs by name and labels: gives a score for each sample, or one number for the batch."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        worth = Worth.of(function)
        self.smaller_is_better, self.share = worth.smaller, worth.share
        self._function, self._name, self._scores = function, name, list[np.ndarray]()

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        with redirect_stdout(sys.stderr):
            given = self._function(outputs, labels)
        try:
            scores = np.zeros((0, 0)) if given is None else np.asarray(given, np.float64)
        except (TypeError, ValueError):
            scores = np.zeros((0, 0))
        if scores.shape not in ((), (len(labels),)):
            told = f"an array of shape {np.shape(given)}" if isinstance(given, np.ndarray) else type(given).__name__
            fix = "return a number, or an array with one for each sample"
            raise BadData(f"metric {self._name!r} returned {told} for {len(labels)} samples", fix=fix)
        self._scores.append(np.broadcast_to(scores, len(labels)))

    def result(self) -> float:
        return float(self.scores().mean())

    def scores(self) -> np.ndarray:
        return np.concatenate(self._scores)


LABELS = {
    "classes": "class numbers",
    "values": "numbers of an output's shape",
    "tokens": "token numbers, a row a sample, those below 0 filling up",
    "boxes": "boxes, a row each of left, top, right, bottom and class, rows of class -1 filling up",
}
"""What labels may be, by what metrics say that they need."""
_MEANT = {"accuracy": "top1", "acc": "top1", "ap": "map", "map@50": "map50", "ap50": "map50", "ppl": "perplexity"}


def _meant(name: str) -> str:
    """What a metric is called elsewhere."""
    low = name.lower()
    return _MEANT.get(low, low if low != name and low in METRICS else "")


METRICS: Registry[Callable[[], Metric]] = Registry(
    "metric", "intaglio.metrics", "intaglio.measure.metrics", offers=LABELS, adapted=of_function, meant=_meant
)


@dataclass
class TopK:
    """Share of samples whose label is among the k highest scores.

    Of equal scores the one of the lower class counts as higher, as in argmax. A label whose score is NaN is wrong.
    """

    k: int
    output: str = ""
    right: list[np.ndarray] = field(default_factory=list)

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        scores = class_scores(outputs, self.output)
        classes = class_labels(labels, scores.shape[1])
        own = np.take_along_axis(scores, classes[:, None], axis=1)
        with np.errstate(invalid="ignore"):
            ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < classes[:, None]))
            ahead |= np.isnan(scores) & ~np.isnan(own)  # argmax prefers NaN: such a model is no better for hiding it
        self.right.append((ahead.sum(axis=1) < self.k) & ~np.isnan(own[:, 0]))

    def result(self) -> float:
        right = self.scores()
        return int(right.sum()) / len(right) if len(right) else float("nan")

    def scores(self) -> np.ndarray:
        """1 where the label is among the highest, else 0. Shapes: (samples,)."""
        return np.concatenate([np.zeros(0), *self.right])


@METRICS.register("top1", needs=("classes",))
def top1() -> Metric:
    """Share of samples whose label has the highest score."""
    return TopK(1)


@METRICS.register("top5", needs=("classes",))
def top5() -> Metric:
    """Share of samples whose label is among the five highest scores."""
    return TopK(5)


class HighestScores(Output):
    """Options of ``topk``."""

    k: int = Field(default=3, ge=1, description="how many of the highest scores count")


@METRICS.register("topk", options=HighestScores, needs=("classes",))
def topk(options: HighestScores) -> Metric:
    """Share of samples whose label is among the k highest scores, such as topk:k=3."""
    return TopK(options.k, options.output)


@dataclass(frozen=True)
class Evaluation:
    """What was measured: ``values`` by metric, on so many ``samples``, and the ``scores`` of each where a metric has them.

    ``parts`` are two columns, the sums of which a value is a quotient of; ``worth`` is how the values read.
    """

    samples: int
    values: dict[str, float]
    seconds: float
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    worth: dict[str, Worth] = field(default_factory=dict)


def evaluate_model(
    model: Model | Path | str,
    source: DataSource,
    *,
    names: Sequence[str] = (),
    usual: bool = False,
    tick: Tick | None = None,
) -> Evaluation:
    """``evaluate_session`` on a model that is opened for it."""
    return evaluate_session(open_session(model), source, names=names, usual=usual, tick=tick)


def evaluate_session(
    session: Any,
    source: DataSource,
    *,
    names: Sequence[str] = (),
    usual: bool = False,
    output: str | None = None,
    batch: int = 64,
    tick: Tick | None = None,
    pieces: Pieces = HERE,
) -> Evaluation:
    """Run the data through the model and score it.

    Batches are pieces of work. ``names`` are metrics; by default, and with ``usual`` beside others where the outputs score classes, top1, and top5
    where there are more than five. ``output`` names the output to score where there are several.

    Raises:
        BadData: the data has no labels, or they do not go with the outputs.
        UsageError: a metric or output does not exist.
    """
    require_labels(source)
    wanted = _outputs(session, output)
    scoring = Scoring(names, usual=usual)
    for piece, outputs in _run(session, source, wanted, batch, pieces):
        scoring.add(piece, outputs)
        if tick:
            tick(scoring.samples, source.samples)
    return scoring.evaluation(source.name)


def _run(
    session: Any, source: DataSource, wanted: Sequence[str], batch: int, pieces: Pieces
) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
    """Each batch and the outputs that are wanted; shared out where it is known how many there are."""

    def made(piece: Batch) -> dict[str, Any]:
        outputs = run_batch(session, piece)
        return {name: outputs[name] for name in wanted}

    if pieces is HERE or source.samples is None:
        yield from ((piece, made(piece)) for piece in source.batches(batch))
        return
    count = -(-source.samples // source.batch_size(batch))
    yield from zip(source.batches(batch), pieces.each(source.batches(batch), made, count, streamed=True), strict=True)


def require_labels(source: DataSource) -> None:
    """Raises BadData where nothing tells right from wrong."""
    if not source.labelled:
        raise BadData(
            f"{source.name} has no labels, so nothing tells right from wrong",
            fix="add an array named labels; without labels, intaglio compare A B --data shows how two models differ",
        )


class Scoring:
    """An evaluation in the making, filled batch by batch."""

    def __init__(self, names: Sequence[str] = (), *, usual: bool = False) -> None:
        self._names, self._usual = names, usual
        self._chosen: dict[str, Metric] = {}
        self._started, self.samples = time.perf_counter(), 0

    def add(self, piece: Batch, outputs: Mapping[str, Any]) -> None:
        """Raises BadData, BadModel, UsageError: see ``evaluate_session``."""
        assert piece.labels is not None
        self._chosen = self._chosen or _metrics(self._names, outputs, usual=self._usual)
        for name, value in outputs.items():
            if isinstance(value, np.ndarray):
                check_rows(name, value, piece.count)
        for name, metric in self._chosen.items():
            with _failing(name):
                metric.add(outputs, piece.labels)
        self.samples += piece.count

    @property
    def values(self) -> dict[str, float]:
        """By metric."""
        return {name: self._result(name) for name in self._chosen}

    def evaluation(self, name: str = "the data") -> Evaluation:
        if not self.samples:
            raise BadData(f"{name} holds no samples")
        scores, parts = (
            {name: getattr(one, what)() for name, one in self._chosen.items() if hasattr(one, what)}
            for what in ("scores", "parts")
        )
        worth = {name: Worth.of(one) for name, one in self._chosen.items()}
        return Evaluation(self.samples, self.values, time.perf_counter() - self._started, scores, parts, worth)

    def _result(self, name: str) -> float:
        with _failing(name):
            return float(self._chosen[name].result())


@contextmanager
def _failing(name: str) -> Iterator[None]:
    """What a metric raises is told as a failure of that metric: it may be a user's."""
    try:
        yield
    except (IntaglioError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise BadData(f"metric {name!r} failed", why=f"{type(error).__name__}: {error}") from error


def class_scores(outputs: Mapping[str, np.ndarray], output: str = "") -> np.ndarray:
    """The one output that scores classes, or that of a name. Shapes: (samples, classes).

    Raises:
        UsageError: several outputs could be meant.
        BadData: none has one score per class.
    """
    if output and output not in outputs:
        raise UsageError(f"there is no output {output!r}", fix=near(output, outputs))
    flat = {name: _flat(value) for name, value in outputs.items() if output in ("", name)}
    fitting = {name: value for name, value in flat.items() if value is not None}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise UsageError(
            "several outputs could be the class scores",
            why=", ".join(fitting),
            fix=f"choose one: --metric topk:k=1,output={next(iter(fitting))}",
        )
    told = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    raise BadData(
        "no output has one score per class, (samples, classes)",
        why=f"the model gives {told}",
        fix=_OTHER,
    )


def class_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels as class numbers; (samples, 1) and one-hot (samples, classes) are understood. Raises BadData."""
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        if not ((labels != 0).sum(axis=1) == 1).all():
            raise BadData("the labels look one-hot, but some rows have not exactly one 1", fix=_OTHER)
        hot: np.ndarray = (labels != 0).argmax(axis=1)
        return hot
    labels = labels.reshape(len(labels), -1)[:, 0] if labels.ndim > 1 and labels[0].size == 1 else labels
    if labels.ndim != 1 or (labels.dtype.kind not in "iub" and not _whole(labels)):
        raise BadData(f"the labels are no class numbers: {labels.dtype} of shape {labels.shape}", fix=_OTHER)
    numbers = labels.astype(np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
        raise BadData(
            f"a label is outside the {classes} classes of the model: labels go from {numbers.min()} to {numbers.max()}",
            fix="count classes from 0; check that the data belongs to this model",
        )
    return numbers


def _whole(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "f" and bool(np.all(labels == np.floor(labels)))


def _flat(value: Any) -> np.ndarray | None:
    """Scores as (samples, classes), trailing axes of length one dropped; None where that is not what it is."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiuV" or value.ndim < 2:
        return None
    if value.shape[1] < 2 or any(d != 1 for d in value.shape[2:]):
        return None
    flat = value.reshape(value.shape[:2])
    return flat if flat.dtype.kind in "iu" else flat.astype(np.float64)


def _outputs(session: Any, output: str | None) -> list[str]:
    names = [o.name for o in session.get_outputs()]
    if output is not None and output not in names:
        raise UsageError(f"there is no output {output!r}", fix=f"choose one of {', '.join(names)}")
    return [output] if output is not None else names


def _metrics(names: Sequence[str], outputs: Mapping[str, np.ndarray], *, usual: bool) -> dict[str, Metric]:
    chosen = {name: METRICS[name]() for name in names}
    if chosen and not usual:
        return chosen
    try:
        classes = class_scores(outputs).shape[1]
    except (BadData, UsageError):
        if chosen:
            return chosen
        raise
    return {**{name: METRICS[name]() for name in (("top1", "top5") if classes > 5 else ("top1",))}, **chosen}
