"""A run: passes in order on one model, measured before and after, held to limits, and written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from ..graph.errors import IntaglioError, NothingChanged, UsageError
from ..graph.io.fit import USUAL, Fit, fitted
from ..graph.model import Model
from ..measure.accuracy import Evaluation
from ..measure.data.source import DataSource
from ..measure.executors.pieces import HERE, Pieces
from ..measure.run.tensor_specs import output_specs
from ..passes.base import MEMORY, Context, Pass
from ..passes.bodies import run_with_bodies
from ..passes.change import Change
from ..passes.masks import filled, masks, set_masks
from ..passes.quantize.targets import TARGETS
from .by_layer import by_layer, with_times
from .data import Data, Named
from .fitting import fit_change
from .gates import Gate, metrics_of, read_gates, require
from .given import Given
from .importing import read_model
from .measured import (
    accuracy,
    crowding,
    differences,
    evaluations,
    known_latencies,
    latencies,
    opening,
    timing_inputs,
    told_sizes,
    with_sizes,
)
from .outputs import Outputs
from .plugins import plugins_of
from .recipe.words import change_as_recipe, errors_as_recipe
from .recipe.write import recorded
from .report import Report, in_a_row
from .warnings import blind_warnings, drop_warnings, sample_warnings, strayed_warnings

UNTIMED = (
    "this machine is not what --target {} stands for, so nothing is timed here: do that there, with intaglio bench"
)
Each = Callable[[int, Pass, Model, Callable[[], Change]], Change]
"""Does a step by what it is handed last; its place in order, the pass and the model tell what it is."""


class Found(Protocol):
    """What a search hands to a run: passes, and what it knows that the first of them do."""

    @property
    def passes(self) -> Sequence[Pass]: ...
    @property
    def changes(self) -> Sequence[Change]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def refusal(self) -> IntaglioError | None: ...
    def as_dict(self) -> dict[str, Any]: ...


Search = Callable[[Model, Context, Callable[[Model], None]], Found]
"""Told the model, the data, and what makes a model take one sample again where it was opened for many."""


class View(Protocol):
    """Where a run tells what it does: ``notes`` as soon as they are known, ``warnings``, and how far it is."""

    def notes(self, sentences: Sequence[str]) -> None: ...
    def warnings(self, sentences: Sequence[str]) -> None: ...
    def progress(self, title: str) -> AbstractContextManager[Callable[[int, int | None], None]]: ...


class Logged:
    """Notes go to the package's logger, progress nowhere."""

    def notes(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            logging.getLogger("intaglio").info(sentence)

    def warnings(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            logging.getLogger("intaglio").warning(sentence)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, total: None


@dataclass(frozen=True)
class Unwarned:
    """Another view, but for the warnings: these are told with others, by whoever started the run."""

    view: View

    def notes(self, sentences: Sequence[str]) -> None:
        self.view.notes(sentences)

    def warnings(self, sentences: Sequence[str]) -> None:
        """Nothing."""

    def progress(self, title: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        return self.view.progress(title)


def run(
    model: Model | str | PathLike[str],
    passes: Pass | Sequence[Pass],
    *,
    data: Named | None = None,
    eval_data: Named | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    metrics: Sequence[str] = (),
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    proof: str | PathLike[str] | None = None,
    save_recipe: str | PathLike[str] | None = None,
    measure: bool = True,
    gates: Sequence[str | Gate] = (),
    force: bool = False,
    memory: int = MEMORY,
    resume: str | PathLike[str] | None = None,
    fit: Fit = USUAL,
    pieces: Pieces = HERE,
    view: View | None = None,
) -> Report:
    """Do one pass or several in a row, measure what that cost, and write the result.

    ``data`` is calibration data, ``eval_data`` labelled data that accuracy is measured on, both as ``--data`` takes
    them, and ``metrics`` what is measured there, the first of which is the accuracy. ``out`` is the file to write, ``proof`` one for the model that the result was proved to equal; both appear
    together, last, with ``save_recipe``, a recipe that does the same again. With ``measure`` both models are timed in
    turn. ``gates`` are limits such as
    ``"drop <= 1.0"``: a result that misses one is written as ``NAME.gate-failed.onnx``, never as ``out``. ``force``
    writes what a pass itself advises against, such as a result that is slower than the original, and takes a pass that
    can change nothing for no error. ``memory`` is how many bytes of tensors are held at once, beside the models. ``resume``
    is a folder in which what layers became is kept, so that a run that was ended goes on from there. ``fit``
    says what the file may need of a runtime. ``pieces`` does what may be done apart: see ``shared_out``.

    Raises:
        GateFailed: a gate was missed; ``report`` of the error is what would have been returned.
        IntaglioError: what a pass or the data says; nothing was written.
    """
    held = read_gates(gates)
    steps = _in_order(passes)
    if proof is not None and len(steps) > 1:
        raise UsageError("a proof is of one pass", fix="run the passes one by one, or leave out the proof")
    model_path, proof_path, recipe_path = (None if one is None else Path(one) for one in (out, proof, save_recipe))
    named = Data(data, eval_data, preprocess, samples, seed, metrics)
    read, steps = ready(loaded(model), steps, named)
    kept = None if resume is None else _resumed(Path(resume), steps, named)
    job = Run(steps, named, measure, force, memory, view or Logged(), held, fit=fit, resume=kept, pieces=pieces)
    return carried_out(job, read, Outputs(model_path, proof_path, recipe_path))


def _resumed(folder: Path, steps: Sequence[Pass], named: Data) -> Path:
    """Raises UsageError where nothing would be kept."""
    blind = named.calibration is None and not any(one.makes_noise for one in steps)
    if not any(one.resumes for one in steps):
        raise UsageError(
            f"{steps[0].name} keeps nothing to go on from",
            why="what goes layer after layer does: quantize, binarize, sparsify, factorize, and prune by obspa, with a refit, or of branches and experts",
            fix="leave out --resume; steps of a recipe are kept by intaglio compress",
        )
    if blind and not any(one.resumes_blind for one in steps):
        raise UsageError("without data there is nothing to go on from", fix="add --data SOURCE, or leave out --resume")
    return folder


def ready(model: Model, steps: tuple[Pass, ...], named: Data) -> tuple[Model, tuple[Pass, ...]]:
    """The model as the first pass reads it, and the passes as they are for its inputs."""
    read = steps[0].read(model) if steps else model
    if named.calibration is None:
        steps = tuple(one.for_inputs(read, named.preprocess) for one in steps)
    return read, steps


def carried_out(job: Run, model: Model, outputs: Outputs) -> Report:
    """Do a run and write its files. Raises as ``run`` does."""
    outputs.check(model, aside=bool(job.gates or job.search), force=job.force)
    report = job.on(model, outputs.model)
    if outputs.proof is not None and report.change.changed and report.change.reference is None:
        raise UsageError(f"{job.passes[0].name} makes no model to compare its result with", fix="leave out the proof")
    if report.change.refusal and not job.force:
        raise report.change.refusal
    if report.failed:
        outputs = outputs.aside
        report = replace(report, out=outputs.model)
    outputs.write(report, report.last)
    if error := report.failed:
        raise error
    return report


def _in_order(passes: Pass | Sequence[Pass]) -> tuple[Pass, ...]:
    alone = isinstance(passes, (Pass, str)) or not isinstance(passes, Iterable)
    steps: tuple[Any, ...] = (passes,) if alone else tuple(passes)
    if not steps:
        raise UsageError("there is no pass to run")
    for one in steps:
        if not isinstance(one, Pass):
            raise UsageError(
                f"{one!r} is no pass", fix='give an object, such as Quantize(scheme="w8"), or a list of them'
            )
    return steps


def loaded(model: Model | str | PathLike[str]) -> Model:
    if isinstance(model, Model):
        return model
    if not isinstance(model, (str, PathLike)):
        raise UsageError(
            f"a {type(model).__name__} is no model to run on", fix="give a path, or what intaglio.load returns"
        )
    return read_model(model)


@dataclass(frozen=True)
class Measured:
    """What a model is worth, each None where that was not measured: its accuracy, and its outputs beside the original's."""

    evaluation: Evaluation | None
    outputs: dict[str, dict[str, Any]] | None

    def as_dict(self) -> dict[str, Any]:
        noise = [one["sqnr_db"] for one in (self.outputs or {}).values()]
        return {"accuracy": self.evaluation and self.evaluation.values, "sqnr_db": min(noise, default=None)}


@dataclass(frozen=True)
class Run:
    """Passes in order, the data that they get, and what is told on the way.

    Where ``search`` is given, it finds the passes. ``each`` does a step, or knows what came of it before.
    """

    passes: Sequence[Pass]
    data: Data
    measure: bool
    force: bool
    memory: int
    view: View
    gates: Sequence[Gate] = ()
    each: Each = lambda place, one, model, do: do()
    search: Search | None = None
    command: str = ""
    fit: Fit = USUAL
    target: str | None = None
    pieces: Pieces = HERE
    resume: Path | None = None

    def on(self, original: Model, out: Path | None = None) -> Report:
        """Everything but the writing."""
        self.view.notes(original.notes)
        fitted(original, self.fit)  # to find out before long work
        opened, close = self.data.for_many_samples(original, self.passes)
        labelled = self._told(self.data.open_labelled(opened, self.passes))
        context = Context(
            self._told(self.data.open_calibration(opened)),
            labelled,
            metrics=self.data.metrics,
            seed=self.data.seed,
            memory=self.memory,
            fit=self.fit,
            pieces=self.pieces,
            resume=self.resume,
        )
        self._require(context, opened)
        opened = with_sizes(opened, context.inputs)
        rates = self._rated([opened], labelled)  # before long work, so that what cannot be scored is told at once
        searched = self.search(opened, context, close) if self.search else None
        passes = searched.passes if searched else self.passes
        changes = self._changes(passes, opened, context, searched)
        change = in_a_row(opened, [one.name for one in passes], changes)
        if searched:
            own = None if searched.refusal else change.refusal
            change = replace(change, refusal=own, notes=[*change.notes, *searched.notes])
        recipe = recorded(original, passes, changes, self.data, self.force, self.fit, self.target)
        given = Given.of(original)
        command = self.command or (passes[0].name if len(passes) == 1 else "run")
        told: dict[str, Any] = {"plugins": plugins_of(passes), "command": command, "last": passes[-1], "given": given}
        told["found"] = {**(searched.as_dict() if searched else {}), **_by_layer(opened, passes, changes)}
        unchanged = [] if change.changed else self._unchanged(change, out)
        if unchanged and not self.gates:
            close(opened)
            return Report(change, unchanged, recipe, out=out, **told)
        told["refusal"] = searched.refusal if searched and not self.force else None
        rates += self._rated([one.model for one in changes], labelled)
        found = self._measured([opened, *(one.model for one in changes)], rates, context.inputs)
        change = _closing(_with_steps(change, found), close)
        _ = change.before, change.after  # what they cost as the passes saw them
        for model in (opened, change.model) if change.changed else (opened,):
            close(model)
        rated = accuracy(rates[0], rates[-1]) if rates[0] and rates[-1] else None
        untimed = self._untimed(passes, change)
        times = self._latency(change, context.inputs, given) if self.measure and not untimed else None
        if times and (rows := told["found"].get("by_layer")):
            feed = timing_inputs(opened, self.data.seed, context.inputs)
            told["found"]["by_layer"] = with_times(rows, opened, _named(passes, changes)[-1].model, feed)
        notes = unchanged or [
            *change.notes,
            *_remarks(change, times, given, smaller=any(one.smaller for one in passes)),
            *untimed,
            *opening(change.model, self.memory),
        ]
        apart = found[-1].outputs
        report = Report(change, notes, recipe, rated, times, out, apart, **told)
        return replace(self, passes=passes)._judged(report, context.data)

    def _judged(self, report: Report, data: DataSource | None) -> Report:
        report = replace(report, gates=[gate.judged(report.as_dict()) for gate in self.gates])
        limit = next((drop for one in self.passes if (drop := one.allowed_drop) is not None), None)
        advice = report.change.advice.get("collapsed", "")
        warnings = drop_warnings(report.as_dict(), limit=limit, advice=advice)
        warnings += [*strayed_warnings(report.as_dict()), *sample_warnings(data)]
        if self.command and not self.search and self.data.calibration is None:
            warnings += blind_warnings([one.blind for one in self.passes], rated=bool(report.accuracy))
        self.view.warnings(warnings)
        return replace(report, warnings=warnings)

    def _require(self, context: Context, model: Model) -> None:
        labelled = context.eval_data
        labels = None if labelled and labelled.labelled else "add --eval-data SOURCE, data with labels"
        data = None if context.inputs else "add --data SOURCE"
        times = None if self.measure else "leave out --no-measure"
        if target := self._elsewhere(self.passes):
            times = UNTIMED.format(target)
            self._require_no_times(target)
        require(self.gates, labels=labels, data=data, times=times)
        shapes = [one.shape for one in output_specs(model)]
        if any(gate.name == "agreement" for gate in self.gates) and not any(
            one is None or len(one) == 2 for one in shapes
        ):
            what = "gate agreement compares which class scores highest, and no output is (samples, classes)"
            raise UsageError(what, fix='say how close outputs must be: --gate "sqnr >= 20dB"')

    def _require_no_times(self, target: str) -> None:
        for one in self.passes:
            if getattr(one, "target", None) == "latency":
                raise UsageError(
                    f"{one.name} for 'latency' measures times on this machine, which is not what target {target} stands for",
                    fix="ask for macs or size in its place, or run it on such a machine",
                )

    def _elsewhere(self, passes: Sequence[Pass]) -> str | None:
        """The target of a result that is not for this machine, whether or not a pass asks for one."""
        named = self.target if self.target and not TARGETS[self.target].is_here else None
        return named or next((one.elsewhere for one in passes if one.elsewhere), None)

    def _untimed(self, passes: Sequence[Pass], change: Change) -> list[str]:
        """Why nothing is timed, though the user did not say so."""
        if not self.measure:
            return []
        if target := self._elsewhere(passes):
            return [UNTIMED.format(target)]
        if any(gate.figure.needs == "times" for gate in self.gates):
            return []
        return crowding([change.original, change.model])

    def _unchanged(self, change: Change, out: Path | None) -> list[str]:
        why = "; ".join(change.notes)
        if not self.force:
            raise NothingChanged("no pass found anything to change", why=why)
        return [f"{why}; {out} is the model as it was, as --force asks" if out else why]

    def _told(self, source: DataSource | None) -> DataSource | None:
        if source is not None:
            self.view.notes(source.notes)
        return source

    def _changes(self, passes: Sequence[Pass], model: Model, context: Context, found: Found | None) -> list[Change]:
        changes: list[Change] = []
        for place, one in enumerate(passes):
            known = found.changes[place] if found and place < len(found.changes) else None
            changes.append(self.each(place, one, model, partial(self._done, one, model, context, known)))
            model = changes[-1].model
        return [*changes[:-1], *(fit_change(one, self.fit) for one in changes[-1:])]

    def _done(self, one: Pass, model: Model, context: Context, known: Change | None) -> Change:
        with errors_as_recipe(type(one)) if self.command else nullcontext():
            change = known or self._timed_change(one, model, context)
        return change_as_recipe(change, type(one)) if self.command else change

    def _timed_change(self, one: Pass, model: Model, context: Context) -> Change:
        started = time.perf_counter()
        made_up = one.makes_noise
        data = self.data.made_up(one.imagines_with(model), made_up) if made_up else context.data
        with self.view.progress(one.doing) as tick:
            change = _honest(self._change(one, model, replace(context, data=data, tick=tick)), one.name)
        return replace(change, seconds=time.perf_counter() - started)

    def _change(self, one: Pass, model: Model, context: Context) -> Change:
        try:
            return run_with_bodies(one, model, context)
        except NothingChanged as error:
            if not self.force:
                raise
            told = f"{error.what}: {error.why}" if error.why else error.what
            return Change(model, model, notes=[told])

    def _rated(self, models: Sequence[Model], labelled: DataSource | None) -> list[Evaluation | None]:
        if labelled is None or self.pieces.helps:
            return [None] * len(models)
        with self.view.progress("evaluating") as tick:
            names = list(dict.fromkeys([*self.data.metrics, *metrics_of(self.gates)]))
            return [*evaluations(models, labelled, tick, names, usual=not self.data.metrics)]

    def _measured(
        self, models: Sequence[Model], rated: Sequence[Evaluation | None], data: DataSource | None
    ) -> list[Measured]:
        """Of the original and of what each pass made; outputs only where something asks for them."""
        apart: list[Any] = [None] * len(models)
        if data is not None and (len(models) > 2 or any(gate.figure.needs == "data" for gate in self.gates)):
            with self.view.progress("comparing outputs") as tick:
                apart = [None, *(differences(models[0], one, data, tick) for one in models[1:])]
        return list(map(Measured, rated, apart))

    def _latency(self, change: Change, source: DataSource | None, given: Given | None) -> dict[str, Any]:
        if change.latency is None:
            return self._timed(change.original, change.model, source, given)
        same = given is None or not given.read.notes
        return known_latencies(
            change.latency, None if same else self._timed(change.original, change.original, source, given)
        )

    def _timed(self, before: Model, after: Model, source: DataSource | None, given: Given | None) -> dict[str, Any]:
        with self.view.progress("timing"):
            return latencies(before, after, self.data.seed, source, given)


def _honest(change: Change, name: str) -> Change:
    """The same, its model saying of no weight that it has a mask where the pass filled that."""
    lost = filled(change.original, change.model) if change.changed else []
    if not lost:
        return change
    model = change.model.copy()
    set_masks(model, {weight: pattern for weight, pattern in masks(model).items() if weight not in lost})
    told = f"{name} did not keep the zeros of {len(lost)} weights, such as {lost[0]!r}: they have no mask any more"
    return replace(change, model=model, notes=[*change.notes, told])


def _by_layer(original: Model, passes: Sequence[Pass], changes: Sequence[Change]) -> dict[str, Any]:
    """What layers cost, as the passes saw them."""
    named = _named(passes, changes)
    same = all(not change.changed for change in named)
    return {} if same else {"by_layer": list(by_layer(original, named[-1].model))}


def _named(passes: Sequence[Pass], changes: Sequence[Change]) -> list[Change]:
    """Of models before names were shortened, which cost the same."""
    return [change for one, change in zip(passes, changes, strict=True) if not one.renames]


def _closing(change: Change, close: Callable[[Model], None]) -> Change:
    """The same, its reference taking as many samples a run as the original did."""
    make = change.reference
    if make is None:
        return change

    def closed() -> Model:
        model = make()
        close(model)
        return model

    return replace(change, reference=closed)


def _with_steps(change: Change, found: Sequence[Measured]) -> Change:
    """Of several passes, what the model that each left is worth."""
    if change.units != "steps":
        return change
    return replace(
        change, layers=[{**step, **one.as_dict()} for step, one in zip(change.layers, found[1:], strict=True)]
    )


def _remarks(change: Change, times: dict[str, Any] | None, given: Given | None, *, smaller: bool) -> Iterator[str]:
    """What nobody should overlook."""
    if told := told_sizes(change.original, times):
        yield told
    if smaller and change.after.size >= (given.size_bytes if given else change.before.size):
        yield "the file is not smaller than the original"
    if times and not change.latency and times["verdict"] == "slower":
        told = f"the result is slower: {times['after']:.3g} ms against {times['before']:.3g} ms"
        yield "; ".join(filter(None, (told, change.advice.get("slower"))))
