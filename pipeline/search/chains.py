"""Chains of passes tried on one model: what begins alike is done once, and what comes out is measured."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from ...graph.errors import IntaglioError
from ...graph.model import Model
from ...measure.accuracy import Evaluation, evaluate_model
from ...measure.data.source import Batch
from ...measure.run.inputs import runnable_inputs
from ...measure.run.latency import Timing, time_pair
from ...measure.run.pairing import output_differences, pair_models
from ...measure.run.session import open_session
from ...passes.base import Context, Pass
from ...passes.bodies import run_with_bodies
from ...passes.change import Change, amounts
from ..run import Logged, View
from .result import Point

SAMPLES = 256
"""Inputs on which outputs are compared with the original's."""
_BATCH, _TIMES = 64, 3


@dataclass
class Chains:
    """Of ``original``, which ``close`` makes take one sample again where it was opened for many: see ``open_batch``."""

    original: Model
    context: Context
    close: Callable[[Model], None] = lambda _: None
    view: View = field(default_factory=Logged)
    _done: dict[tuple[str, ...], Change | IntaglioError] = field(default_factory=dict)
    _seconds: dict[tuple[str, ...], float] = field(default_factory=dict)
    _rates: dict[int, Evaluation] = field(default_factory=dict)

    def changes(self, passes: Sequence[Pass]) -> tuple[Change, ...]:
        """What each pass makes of what the one before it made. Raises IntaglioError where one of them cannot be run."""
        model, found, key = self.original, list[Change](), tuple[str, ...]()
        for one in passes:
            key = (*key, f"{one.name} {one.model_dump_json()}")
            if key not in self._done:
                self._run(key, one, model)
            change = self._done[key]
            if isinstance(change, IntaglioError):
                raise change
            found.append(change)
            model = change.model
        return tuple(found)

    def _run(self, key: tuple[str, ...], one: Pass, model: Model) -> None:
        started = time.perf_counter()
        with self.view.progress(one.doing) as tick:
            try:
                change = run_with_bodies(one, model, replace(self.context, tick=tick))
                self._done[key] = replace(change, seconds=time.perf_counter() - started)
            except IntaglioError as error:
                self._done[key] = error
        self._seconds[key] = time.perf_counter() - started

    def model(self, passes: Sequence[Pass]) -> Model:
        """Raises IntaglioError where one of them cannot be run."""
        changes = self.changes(passes)
        return changes[-1].model if changes else self.original

    def point(self, name: str, passes: Sequence[Pass], *, timed: bool = False, scored: bool = True) -> Point:
        """What a chain gives; one that cannot be run says why. ``timed`` and ``scored`` ask for time and accuracy."""
        told = [{"pass": one.name, **one.model_dump(exclude_unset=True)} for one in passes]
        key = tuple(f"{one.name} {one.model_dump_json()}" for one in passes)
        try:
            model = self.model(passes)
        except IntaglioError as error:
            return Point(name, told, told=_reason(error), seconds=self._spent(key))
        before, after = amounts(self.original), amounts(model)
        point = Point(
            name,
            told,
            round(after.size),
            round(after.macs),
            round(after.params),
            before.kept(after),
            sqnr_db=self.sqnr(model),
            seconds=self._spent(key),
        )
        if timed:
            point = self.timed(point, model)
        return replace(point, accuracy=rate.values) if scored and (rate := self.evaluation(model)) else point

    def timed(self, point: Point, model: Model) -> Point:
        """The middle one of a few measurements: a limit is not to hang on what else the machine does."""
        timing = sorted((self.time(model) for _ in range(_TIMES)), key=lambda one: one.speedup(1))[_TIMES // 2]
        return replace(point, latency_ms=timing.latencies[1].median_ms, latency_ratio=1 / timing.speedup(1))

    def time(self, model: Model) -> Timing:
        """The original and a model in turn, one sample, one thread."""
        before, after = self.original.copy(), model.copy()
        for one in (before, after):
            self.close(one)
        feed = runnable_inputs(before, seed=self.context.seed, batches=(1, 2))
        return time_pair(before, after, inputs=feed)

    def evaluation(self, model: Model) -> Evaluation | None:
        """None without labels."""
        labelled = self.context.eval_data
        if labelled is None or not labelled.labelled:
            return None
        if id(model) not in self._rates:
            self._rates[id(model)] = evaluate_model(model, labelled)
        return self._rates[id(model)]

    def sqnr(self, model: Model) -> float | None:
        """Of the outputs against the original's, the least of them; on made-up inputs without real ones."""
        source = self.context.inputs
        sessions = [open_session(one) for one in (self.original, model)]
        batches = source.batches(_BATCH) if source else [Batch(runnable_inputs(self.original), 1)]
        try:
            found, _ = output_differences(
                sessions, pair_models(self.original, model), islice(batches, SAMPLES // _BATCH)
            )
        except IntaglioError:
            return None
        values = [one.sqnr_db for one in found.values() if one.signal]
        return float(np.clip(min(values), -300, 300)) if values else None

    def _spent(self, key: tuple[str, ...]) -> float:
        return sum(self._seconds.get(key[: k + 1], 0.0) for k in range(len(key)))


def _reason(error: IntaglioError) -> str:
    """What a pass was asked for is no number of the user's: it hangs on the passes before it."""
    asked = re.match(r"target (\w+)=\S+ cannot be reached", error.what)
    return f"{asked[1]} cannot become that low" if asked else error.what


def pareto(points: Sequence[Point], names: Sequence[str], quality: Callable[[Point], float]) -> list[Point]:
    """The same, marked where no other is at least as good in quality and all amounts, and better in one."""
    rows = [None if one.told or not one.kept else (-quality(one), *(amount(one, n) for n in names)) for one in points]
    return [
        replace(one, front=row is not None and not _beaten(row, rows)) for one, row in zip(points, rows, strict=True)
    ]


def _beaten(row: tuple[float, ...], rows: Sequence[tuple[float, ...] | None]) -> bool:
    return any(o is not None and o != row and all(a <= b for a, b in zip(o, row, strict=True)) for o in rows)


def amount(point: Point, name: str) -> float:
    """The fraction of the original's, by the names in ``AMOUNTS``; infinite where it was not measured."""
    if name == "latency":
        return np.inf if point.latency_ratio is None else point.latency_ratio
    return point.kept["size_bytes" if name == "size" else name]
