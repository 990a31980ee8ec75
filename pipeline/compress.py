"""A recipe, or limits to search within, carried out into a folder that holds all that a team and a device need."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from ..graph.errors import GateFailed, IntaglioError, UsageError
from ..graph.io.fit import Fit
from ..graph.io.place import held
from ..graph.io.save import CannotWrite, Document, check_target, save_all
from ..graph.model import Model
from ..passes.base import MEMORY, Context
from . import html
from .data import Data, Named
from .exports import exported, require_exports, sweep_exports
from .formats import markdown
from .gates import Gate, read_gates
from .importing import read_model
from .outputs import Outputs
from .plan import planned
from .recipe.load import located_recipe, otherwise_made
from .recipe.recipe import Recipe, RecipeLimits, aimed
from .recipe.text import Tree
from .recipe.write import as_yaml
from .report import Report
from .run import Found, Logged, Run, Search, View, carried_out, loaded, ready
from .steps import Steps, starting_key
from .text import plain
from .units import parse_size

MODEL, RECIPE, REPORT, PAGE, WORDS = "model.onnx", "recipe.yaml", "report.json", "report.html", "report.md"
_NAMES = (MODEL, "model.gate-failed.onnx", RECIPE, REPORT, PAGE, WORDS, "steps")


@dataclass(frozen=True)
class Compression:
    """What ``compress`` is given.

    ``recipe`` is a file, a preset, a model that holds one, or plain data; ``settings`` are values of its variables. In its
    place there may be limits: fractions, or amounts such as ``"500KB"`` and ``"5ms"``. What is given beside a recipe counts
    more than what it says. ``model`` may be None where the recipe names it.
    """

    model: Model | str | PathLike[str] | None
    out: str | PathLike[str]
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe | None = None
    _: KW_ONLY
    settings: Mapping[str, Any] | None = None
    size: float | str | None = None
    macs: float | str | None = None
    params: float | str | None = None
    latency: float | str | None = None
    max_drop: float | None = None
    target: str | None = None
    data: Named | None = None
    eval_data: Named | None = None
    preprocess: str | None = None
    samples: int | None = None
    metrics: Sequence[str] = ()
    seed: int | None = None
    memory: int | None = None
    gates: Sequence[str | Gate] = ()
    exports: Sequence[str] = ()
    keep_steps: bool = True
    measure: bool = True
    force: bool = False
    opset: int | None = None
    ir: int | None = None
    runtime: str | None = None
    view: View = field(default_factory=Logged)

    def run(self) -> Report:
        """Do it, and write the folder."""
        with self._located():
            return self._run()

    def _run(self) -> Report:
        folder, job, read = Path(self.out), self.job, self.read
        self.view.notes(otherwise_made(self.asked.made_by))
        steps = Steps(folder / "steps", "", self.view.notes)
        with _prepared(folder):
            if self.keep_steps:
                steps.key = starting_key(read, job.data, job.force, job.fit)
                search = self.limits and steps.searched(self.limits, self._searching(steps))
                job = replace(job, each=steps, search=search or None)
            outputs, former = Outputs(folder / MODEL, beside=self._beside), _told(folder)
            try:
                report = carried_out(job, read, outputs)
            except KeyboardInterrupt:
                self.view.notes(["finished steps are kept: the same command goes on from there"] if steps.used else [])
                raise
            except GateFailed:
                _tidy(outputs.model, steps)
                sweep_exports(folder, former, ())
                raise
            _tidy(outputs.aside.model, steps)
            return self._exported(report, former)

    def _exported(self, report: Report, former: Mapping[str, Any]) -> Report:
        """The report with what became of each export. Raises the first error of any, once all is written."""
        folder = Path(self.out)
        found = list(exported(report.model, self.targets, folder, self.job.data, self.view))
        told = [one for one, _ in found]
        sweep_exports(folder, former, told)
        if told:
            report = replace(report, found={**report.found, "exports": told})
            save_all(self._beside(report))
        for error in filter(None, (error for _, error in found)):
            raise error
        if report.failed:
            raise report.failed
        return report

    def plan(self) -> dict[str, Any]:
        """What would be done, and what that is expected to cost; nothing is run or written."""
        taken_by_others(Path(self.out))
        with self._located():
            told = planned(self.job.passes, self.read, self.job.data)
        return {**told, "out": str(self.out), "limits": self.limits}

    @contextmanager
    def _located(self) -> Iterator[None]:
        """Errors tell the place in the recipe of what they name."""
        _, tree = self._asked
        try:
            yield
        except IntaglioError as error:
            tree.locate(error)
            raise

    @property
    def asked(self) -> Recipe:
        """Raises UsageError where it is not clear what is to be done."""
        return self._asked[0]

    @cached_property
    def _asked(self) -> tuple[Recipe, Tree]:
        limits = RecipeLimits(**{name: getattr(self, name) for name in RecipeLimits.model_fields})
        given = [f"`{name}`" for name, value in limits if value is not None]
        if self.recipe is None:
            if self.settings:
                raise UsageError("`set` gives values to a recipe, and there is none", fix="add `recipe`")
            if not given:
                flags = ", ".join(f"`{name}`" for name, _ in limits)
                raise UsageError("nothing was asked for", fix=f"give a `recipe`, or limits: {flags}")
            return Recipe(limits=limits), Tree({})
        if given:
            raise UsageError(f"a recipe and {given[0]} exclude each other", fix="put limits into the recipe: limits:")
        return located_recipe(self.recipe, self.settings)

    @property
    def limits(self) -> dict[str, Any]:
        """What a search keeps; empty where a recipe says what to do."""
        return {name: value for name, value in self.asked.limits or () if value is not None}

    @cached_property
    def read(self) -> Model:
        model, asked = self.model, self.asked
        if model is None and asked.model is None:
            raise UsageError("no model is named", fix="give MODEL, or say model: in the recipe")
        if isinstance(model, (str, PathLike)) or model is None:
            model = read_model(model or str(asked.model), shapes=asked.shapes or None, values=asked.inputs or None)
        return ready(loaded(model), asked.passes, self.data_named)[0]

    @property
    def data_named(self) -> Data:
        told = self.asked.data
        return Data(
            self._found("data", told.calibration) if self.data is None else self.data,
            self._found("eval_data", told.evaluation) if self.eval_data is None else self.eval_data,
            self.preprocess or told.preprocess,
            self.samples or told.samples,
            self.asked.seed if self.seed is None else self.seed,
            self.metrics or told.metrics,
        )

    def _found(self, option: str, name: str | None) -> str | None:
        """A model's metadata name data without folders: they are looked for here, and beside the model."""
        if name is None or not str(self.recipe).endswith(".onnx") or Path(name).exists():
            return name
        model = self.model if isinstance(self.model, (str, PathLike)) else self.asked.model
        beside = Path(model or "").with_name(name)
        if beside.exists():
            return str(beside)
        raise UsageError(
            f"{self.recipe} was made with {name}, which is not here", fix=f"give its place with `{option}`"
        )

    @property
    def targets(self) -> Sequence[str]:
        """What is exported."""
        return list(dict.fromkeys([*self.asked.exports, *self.exports]))

    @cached_property
    def job(self) -> Run:
        asked, named = self.asked, self.data_named
        require_exports(self.targets)
        steps = asked.steps() if self.target is None else tuple(aimed(one, self.target) for one in asked.passes)
        _, steps = ready(self.read, asked_for := steps, named)
        self._require_data(named, told_apart=steps != asked_for)
        memory = self.memory or (parse_size(asked.memory, "memory") if asked.memory else MEMORY)
        held = read_gates([*asked.gates, *self.gates])
        fit = Fit.of(self.opset or asked.opset, self.ir or asked.ir, self.runtime or asked.runtime)
        force = self.force or asked.force
        target = self.target or asked.target
        job = Run(
            steps, named, self.measure, force, memory, self.view, held, command="compress", fit=fit, target=target
        )
        return replace(job, search=self._searching()) if self.limits else job

    def _require_data(self, named: Data, *, told_apart: bool) -> None:
        """Raises UsageError for what says something of data, as there is none, and as no pass heeds it."""
        if any(one is not None for one in (named.calibration, named.labelled)) or any(
            one.makes_noise for one in self.asked.passes
        ):
            return
        for name, heeds in (("preprocess", told_apart), ("samples", False)):
            if getattr(self, name) is not None and not heeds:
                raise UsageError(f"`{name}` says nothing without data", fix="leave it out, or add `data`")

    def _searching(self, steps: Steps | None = None) -> Search:
        from .search.limits import Limits
        from .search.search import search

        limits, target = Limits.read(**self.limits), self.target or self.asked.target or "x86"

        def find(model: Model, context: Context, close: Callable[[Model], None]) -> Found:
            store = steps.tries if steps else None
            return search(model, limits, context, target=target, close=close, view=self.view, store=store)

        return find

    def _beside(self, report: Report) -> list[Document]:
        """All that is told of a result."""
        folder, source = Path(self.out), report.change.original.source
        told = {
            "about": self.asked.about,
            "model": str(source) if source else None,
            **report.recipe,
            "gates": [gate.text for gate in self.job.gates],
            "exports": self.targets if self.targets != ["onnx"] else None,
        }
        recipe, plain_report = {key: value for key, value in told.items() if value}, plain(report.as_dict())
        texts = {
            RECIPE: as_yaml(recipe),
            REPORT: json.dumps(plain_report, indent=2, ensure_ascii=False) + "\n",
            PAGE: html.render(plain_report),
            WORDS: markdown.render(plain_report),
        }
        return [Document(folder / name, text) for name, text in texts.items()]


def compress(
    model: Model | str | PathLike[str] | None,
    out: str | PathLike[str],
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    **given: Any,
) -> Report:
    """Make a model small by a recipe, or by a search within limits, and write all that is known of it into a folder.

    What may be given stands in ``Compression``.

    Raises:
        IntaglioError: what the recipe, a pass or the data says; the folder holds no new result then.
        GateFailed: a gate was missed, or limits cannot be kept; the result, or the nearest that was found, lies in
            the folder as ``model.gate-failed.onnx``.
    """
    return Compression(model, out, recipe, **given).run()


def _told(folder: Path) -> dict[str, Any]:
    """What an earlier run told; nothing where there was none."""
    try:
        told = json.loads((folder / REPORT).read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _tidy(stale: Path | None, steps: Steps) -> None:
    """What an earlier run left goes: its result, where this one's has another name, and its steps."""
    if stale is not None:
        stale.unlink(missing_ok=True)
    if steps.used:
        steps.sweep()


def taken_by_others(folder: Path) -> None:
    """Raises CannotWrite where a folder holds files of these names that no such run wrote."""
    taken = [name for name in _NAMES if (folder / name).exists()]
    if taken and not (folder / RECIPE).is_file() and taken != ["steps"]:
        why = f"it holds {', '.join(taken)}, which no such run wrote"
        raise CannotWrite(f"cannot write into {folder}", why=why, fix="choose another folder")


@contextmanager
def _prepared(folder: Path) -> Iterator[None]:
    """The folder is there, and no other run's; it goes again if nothing came of it. Raises CannotWrite."""
    taken_by_others(folder)
    steps = folder / "steps"
    made = [one for one in (steps, folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_target(folder / MODEL)
        steps.mkdir(exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"cannot make the folder {folder}",
            why=(error.strerror or str(error)).lower(),
            fix="choose another place, where folders can be made",
        ) from error
    try:
        with held(steps) as free:
            if not free:
                why, fix = "another run writes into it", "wait until that has ended, or choose another folder"
                raise CannotWrite(f"cannot write into {folder}", why=why, fix=fix)
            yield
    finally:
        for one in made:
            if one.is_dir() and not os.listdir(one):
                one.rmdir()
