"""Chains of passes tried on one model: what begins alike is done once, and what comes out is measured."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
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
from ...passes.kept import Kept
from ..run import Logged, View
from ..steps import Store, hashed
from .menu import weights_alone
from .result import Point

SAMPLES = 256
"""Inputs on which outputs are compared with the original's."""
_BATCH, _TIMES = 64, 3
_OF_MEDIAN = 1.253
"""Times as large as a mean's is a median's standard error, of normal numbers: the root of half of pi."""
_FAR = 1.15
"""How many times a limit of time a measurement must be, or be less than, for others not to matter."""


@dataclass(frozen=True)
class Elsewhere:
    """Where times are measured: ``name`` tells it from other places, ``time`` measures two models on the same inputs."""

    name: str = ""
    time: Callable[[Model, Model, Mapping[str, np.ndarray]], Timing] | None = None


HERE = Elsewhere()


@dataclass
class Chains:
    """Of ``original``, which ``close`` makes take one sample again where it was opened for many: see ``open_batch``.

    What passes make goes to ``store``, from where models are mapped: what was tried before is not done again, and none is
    held. ``kept`` gives, of what passes made, what others worked out of it.
    """

    original: Model
    context: Context
    store: Store
    close: Callable[[Model], None] = lambda _: None
    view: View = field(default_factory=Logged)
    kept: Callable[[str], Kept] | None = None
    _done: dict[str, Change | IntaglioError] = field(default_factory=dict)
    _rates: dict[str, Evaluation] = field(default_factory=dict)

    def changes(self, passes: Sequence[Pass]) -> tuple[Change, ...]:
        """What each pass makes of what the one before it made. Raises IntaglioError where one of them cannot be run."""
        model, found = self.original, list[Change]()
        for count, one in enumerate(passes, 1):
            key = self.store.after(passes[:count])
            if key not in self._done:
                kept = self.kept and self.kept(self.store.after(passes[: count - 1]))
                self._run(key, one, model, replace(self.context, kept=kept))
            change = self._done[key]
            if isinstance(change, IntaglioError):
                raise change
            found.append(change)
            model = change.model
        return tuple(found)

    def _run(self, key: str, one: Pass, model: Model, context: Context) -> None:
        def do() -> Change:
            started = time.perf_counter()
            with self.view.progress(one.doing) as tick:
                change = run_with_bodies(one, model, replace(context, tick=tick))
            return replace(change, seconds=time.perf_counter() - started)

        try:
            self._done[key] = self.store.step(key, one, model, do)
        except IntaglioError as error:
            self._done[key] = error

    def model(self, passes: Sequence[Pass]) -> Model:
        """Raises IntaglioError where one of them cannot be run."""
        changes = self.changes(passes)
        return changes[-1].model if changes else self.original

    def rough(self, passes: Sequence[Pass], then: Sequence[Pass]) -> Model:
        """What ``then`` makes of what the others made, for its amounts: not kept, and without data where weights are all
        that changes. Raises IntaglioError where one of them cannot be run.
        """
        model = self.model(passes)
        for one in then:
            context = replace(self.context, data=None, eval_data=None) if weights_alone(one) else self.context
            model = run_with_bodies(one, model, context).model
        return model

    def point(
        self, name: str, passes: Sequence[Pass], *, timed: bool = False, limit: float | None = None, scored: bool = True
    ) -> Point:
        """What a chain gives; one that cannot be run says why. ``timed``, within ``limit`` or not, and ``scored`` ask for
        time and accuracy.
        """
        told = [{"pass": one.name, **one.model_dump(exclude_unset=True)} for one in passes]
        try:
            model = self.model(passes)
        except IntaglioError as error:
            return Point(name, told, told=_reason(error))
        before, after = amounts(self.original), amounts(model)
        sqnr, agreement = self.apart(passes)
        point = Point(
            name,
            told,
            round(after.size),
            round(after.macs),
            round(after.params),
            before.kept(after),
            sqnr_db=sqnr,
            agreement=agreement,
            seconds=sum(one.seconds for one in self.changes(passes)),
        )
        if timed:
            point = self.timed(point, passes, limit=limit)
        return replace(point, accuracy=rate.values) if scored and (rate := self.evaluation(passes)) else point

    def timed(
        self,
        point: Point,
        passes: Sequence[Pass],
        times: int = _TIMES,
        *,
        limit: float | None = None,
        most: int = 0,
        elsewhere: Elsewhere = HERE,
    ) -> Point:
        """The middle one of a few measurements, as a limit is not to hang on what else the machine does: of one where that
        is far from the limit, of up to ``most`` while these do not tell on which side of it the time is. What is measured
        ``elsewhere`` is kept under the name of that.
        """
        key = self.store.after(passes)
        key = hashed(key, elsewhere.name) if elsewhere.name else key
        found: list[Sequence[float]] = [*self.store.measured(key).get("timings", ())]
        known = len(found)
        while not _enough([one[1] for one in found], times, limit, most):
            model = self.model(passes)
            one = elsewhere.time(*self.single(model)) if elsewhere.time else self.time(model)
            found.append((one.latencies[1].median_ms, 1 / one.speedup(1)))
        if len(found) > known:
            self.store.note(key, timings=found)
        median, ratio = sorted(found, key=lambda one: one[1])[len(found) // 2]
        return replace(point, latency_ms=median, latency_ratio=ratio)

    def unsure(self, passes: Sequence[Pass]) -> float:
        """By which fraction more or less the time of a chain may be than the middle one of its measurements."""
        return _unsure([one[1] for one in self.store.measured(self.store.after(passes)).get("timings", ())])

    def single(self, model: Model) -> tuple[Model, Model, Mapping[str, np.ndarray]]:
        """The original and a model as they take one sample, and inputs for both."""
        before, after = self.original.copy(), model.copy()
        for one in (before, after):
            self.close(one)
        return before, after, runnable_inputs(before, seed=self.context.seed, batches=(1, 2))

    def time(self, model: Model) -> Timing:
        """The original and a model in turn, one sample, one thread."""
        before, after, inputs = self.single(model)
        return time_pair(before, after, inputs=inputs)

    def evaluation(self, passes: Sequence[Pass]) -> Evaluation | None:
        """None without labels."""
        labelled, key = self.context.eval_data, self.store.after(passes)
        if labelled is None or not labelled.labelled:
            return None
        if key not in self._rates:
            self._rates[key] = evaluate_model(self.model(passes), labelled, names=self.context.metrics)
        return self._rates[key]

    def apart(self, passes: Sequence[Pass]) -> tuple[float | None, float | None]:
        """Signal to noise of the outputs against the original's, the least of them, on made-up inputs without real ones;
        and of how many real inputs the highest score is that of the same class, where there are scores.
        """
        key = self.store.after(passes)
        if "sqnr_db" not in self.store.measured(key):
            sqnr, agreement = self._compared(self.model(passes))
            self.store.note(key, sqnr_db=sqnr, agreement=agreement)
        told = self.store.measured(key)
        return told["sqnr_db"], told["agreement"]

    def _compared(self, model: Model) -> tuple[float | None, float | None]:
        source = self.context.inputs
        sessions = [open_session(one) for one in (self.original, model)]
        batches = source.batches(_BATCH) if source else [Batch(runnable_inputs(self.original), 1)]
        try:
            found, _ = output_differences(
                sessions, pair_models(self.original, model), islice(batches, SAMPLES // _BATCH)
            )
        except IntaglioError:
            return None, None
        values = [one.sqnr_db for one in found.values() if one.signal]
        same = [one.top1_agreement for one in found.values() if one.top1_agreement is not None]
        return float(np.clip(min(values), -300, 300)) if values else None, min(same) if source and same else None


def _enough(ratios: Sequence[float], times: int, limit: float | None, most: int) -> bool:
    """Whether measurements of a time tell what is asked of it."""
    if limit and ratios and not 1 / _FAR < ratios[0] / limit < _FAR:
        return True
    if len(ratios) < times or not limit:
        return len(ratios) >= times
    middle = sorted(ratios)[len(ratios) // 2]
    return len(ratios) >= most or abs(middle / limit - 1) > _unsure(ratios)


def _unsure(ratios: Sequence[float]) -> float:
    """Two standard errors of a median, as a fraction of it; 0 of measurements that are too few to tell."""
    if len(ratios) < _TIMES:
        return 0.0
    return float(2 * _OF_MEDIAN * np.std(ratios, ddof=1) / len(ratios) ** 0.5 / np.median(ratios))


def _reason(error: IntaglioError) -> str:
    """What a pass was asked for is no number of the user's, nor is what it reaches: they hang on the passes before it."""
    asked = re.match(r"target (\w+)=\S+ cannot be reached", error.what)
    return f"{asked[1]} cannot become that low" if asked else error.what


def lowest(error: IntaglioError) -> float | None:
    """What a pass says that it can reach of what it read."""
    told = re.search(r"lowest reachable is ([\d.]+\d)", error.what)
    return float(told[1]) if told else None


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
