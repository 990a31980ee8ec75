"""``search``: a study of a model from its files to a folder of models that nothing beats."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.errors import GateFailed, IntaglioError, UsageError
from ...graph.io.save import CannotWrite, Document, save_all
from ...graph.spec import Spec, spelled
from ...measure.accuracy import METRICS
from ...measure.executors.executor import EXECUTORS
from ...measure.worth import Worth
from ...passes.base import MEMORY
from ...passes.change import amounts
from .. import html
from ..envelope import envelope, environment
from ..formats import markdown
from ..recipe.load import read_tree
from ..recipe.recipe import pass_of
from ..run import Logged, Unwarned, View, run
from ..search.limits import Limits
from ..steps import hashed
from ..text import plain
from ..warnings import LARGE_DROP, drop_warnings
from .cache import MOST, made_folder
from .device import require_places
from .objectives import Objective, hypervolume, objectives
from .predictors.predictor import PREDICTORS, judged
from .record import Record, Told
from .space import Space, opened
from .spaces import named_space
from .storage import Storage, open_storage
from .strategies.linas import features
from .strategies.strategy import STRATEGIES
from .study import Study
from .trial import Bench, Given, bench, given_of, one_thread

_FEWEST, _JUDGED = 12, 256
"""Trials by which predictors are judged."""
FRONT, REPORT, PAGE, WORDS = "front", "report.json", "report.html", "report.md"


@dataclass(frozen=True)
class Searching:
    """What ``search`` is given.

    The space is ``space``, words such as ``widths,bits``, or a ``recipe`` some of whose options are ranges; ``macs,bits`` without. ``samples`` of the
    calibration data and ``scored`` of the labelled are used for a trial. Limits are those of ``compress``. ``write`` is how
    many models of the front are written, spread over it. With ``nested`` channels go in one order and nothing is refitted. ``data`` and ``eval_data`` are names, so that any worker can open
    them. ``device`` is a command that measures times elsewhere.
    """

    model: str | PathLike[str]
    out: str | PathLike[str]
    space: Sequence[str] = ()
    recipe: str | PathLike[str] | Mapping[str, Any] | None = None
    _: KW_ONLY
    settings: Mapping[str, Any] | None = None
    objectives: Sequence[str] = ()
    strategy: Spec = "linas"
    trials: int = 64
    batch: int = 8
    halving: bool = False
    nested: bool = False
    executor: Spec = "local"
    workers: int = 1
    storage: str | None = None
    study: str | None = None
    cache: str | PathLike[str] | None = None
    cache_bytes: int = MOST
    size: float | str | None = None
    macs: float | str | None = None
    params: float | str | None = None
    latency: float | str | None = None
    max_drop: float | None = None
    data: str | None = None
    eval_data: str | None = None
    preprocess: str | None = None
    samples: int | None = 128
    scored: int | None = None
    metrics: Sequence[str] = ()
    seed: int = 0
    memory: int = MEMORY
    shapes: Mapping[str, Sequence[int]] | None = None
    inputs: Mapping[str, Any] | None = None
    device: str | None = None
    write: int = 8
    view: View = field(default_factory=Logged)

    def run(self) -> dict[str, Any]:
        """Do it, and write the folder; gives the report.

        Raises:
            IntaglioError: what the model, the data or the space says.
            GateFailed: no trial keeps the limits; the folder has the report, which the error has, too.
        """
        started, folder = time.perf_counter(), Path(self.out)
        told = self.tried()
        if told.records and not told.usable:
            raise IntaglioError("no trial could be run", why=str(told.records[0].figures["told"]))
        points = list(self._points(told))
        written = list(self._written(points))
        warnings = self._warnings(written)
        self.view.warnings(warnings)
        report = plain(self._report(told, points, written, warnings, time.perf_counter() - started))
        self._write(folder, report)
        if told_error := report.get("error"):
            failed = GateFailed(**told_error)
            failed.report = report
            raise failed
        return report

    def tried(self) -> Told:
        """All trials, from before and new ones; the folder holds what they share, and the study unless it is elsewhere."""
        self._check()
        with (
            made_folder(Path(self.out)),
            closing(EXECUTORS[self.executor](self.workers)) as executor,
            self.view.progress("trying") as tick,
        ):
            self.given.share(executor)
            study = Study(
                self.given,
                self.open_space,
                self.judged_by,
                STRATEGIES[self.strategy],
                self._storage(Path(self.out)),
                executor,
                self.batch,
                self.seed,
                self.halving,
                tick,
            )
            return Told(self.open_space, self.judged_by, study.run(self.trials), self.seed)

    def _check(self) -> None:
        if self.trials < 1 or self.batch < 1 or self.workers < 1:
            raise UsageError("trials, batch and workers are counted from 1")
        if self.device is not None:
            require_places(self.device)
            if not self._timed:
                fix = "add latency to --objectives, or --latency FRACTION"
                raise UsageError("nothing is timed, so there is nothing for a device to do", fix=fix)
        if self.space and self.recipe is not None:
            raise UsageError("`space` and `recipe` both say what may be chosen", fix="leave one of them out")
        for one in self.judged_by:
            if one.needs == "labels" and self.eval_data is None:
                raise UsageError(f"objective {one.name} needs labelled data", fix="add --eval-data SOURCE")
            if one.needs and not (self.data or self.eval_data):
                raise UsageError(f"objective {one.name} needs data", fix="add --data SOURCE")
        folder = Path(self.out)
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not self._ours(folder))):
            why = "it is no folder that a search wrote"
            raise CannotWrite(f"cannot write into {folder}", why=why, fix="choose another folder")

    @staticmethod
    def _ours(folder: Path) -> bool:
        return any((folder / name).exists() for name in ("study.db", "study.jsonl", "cache", FRONT))

    @cached_property
    def judged_by(self) -> list[Objective]:
        usual = ["accuracy" if self.eval_data else "sqnr", "size", "macs"]
        metric = (*self.metrics, "top1")[0]
        smaller = self.eval_data is not None and Worth.of(METRICS[metric]()).smaller
        return objectives(self.objectives or usual, smaller_accuracy=smaller)

    @property
    def _timed(self) -> bool:
        return any(one.name == "latency" for one in self.judged_by) or self.latency is not None

    @cached_property
    def given(self) -> Given:
        """By reference: the model by its hash, the data by that of the first worker, which is this process."""
        given = replace(given_of(self, Path(self.out)), timed=self._timed)
        return replace(given, key=_opened(given).cache.key)

    @cached_property
    def _here(self) -> Bench:
        return _opened(self.given)

    @cached_property
    def open_space(self) -> Space:
        if self.recipe is None:
            return named_space(self.space, self._here.model, nested=self.nested)
        tree = read_tree(self.recipe, self.settings)
        return opened(tree.value.get("passes") or ())

    def _storage(self, folder: Path) -> Storage:
        told = {**asdict(self.given), "cache": "", "cache_bytes": 0, "model": "", "files": {}}
        names = [one.name for one in self.judged_by]
        strategy = spelled(self.strategy, "strategy")
        space = [
            plain(self.open_space.passes(self.open_space.values(np.full(len(self.open_space.parameters), at))))
            for at in (0.0, 0.5, 1.0)
        ]
        about = hashed(told, names, strategy, self.open_space.as_dict(), space, self.batch, self.halving, self.seed)
        name = self.study or f"{Path(self.model).stem}-{about[:12]}"
        return open_storage(self.storage, folder, name, about, self.judged_by)

    def _points(self, told: Told) -> Iterator[dict[str, Any]]:
        """All trials, those of the front marked: of what keeps the limits nothing beats them."""
        limits, before = self._limits, self.before
        meets = [one.usable and _meets(one, limits, before) for one in told.records]
        within = [one for one, kept in zip(told.records, meets, strict=True) if kept]
        front = {one.number for one in replace(told, records=within).front()}
        for one, kept in zip(told.records, meets, strict=True):
            why = one.figures.get("told") or ("stopped early: others were better on few samples" if one.stopped else "")
            yield {
                "size_bytes": 0,
                "macs": 0,
                "params": 0,
                "kept": {},
                "latency_ms": None,
                "latency_ratio": None,
                "accuracy": None,
                "sqnr_db": None,
                "agreement": None,
                "seconds": 0.0,
                **one.figures,
                "passes": one.figures.get("passes") or self.open_space.passes(one.values),
                "name": f"trial {one.number}",
                "values": dict(one.values),
                "meets": kept,
                "front": one.number in front,
                "chosen": False,
                "told": why,
            }

    @cached_property
    def _limits(self) -> dict[str, float]:
        """As fractions of the original, and ``max_drop``; empty where nothing is limited."""
        found = self._read_limits
        if found is None:
            return {}
        before = amounts(self._here.model)
        whole = {"size": before.size, "macs": before.macs, "params": before.params, "latency": np.nan}
        if found.latency and found.latency.absolute:
            whole["latency"] = self.before["latency_ms"]
        drop = {} if found.max_drop is None else {"max_drop": found.max_drop}
        return {**dict(found.fractions(whole)), **drop}

    @cached_property
    def _read_limits(self) -> Limits | None:
        given = {name: getattr(self, name) for name in ("size", "macs", "params", "latency")}
        asked = self.max_drop is not None or any(one is not None for one in given.values())
        return Limits.read(max_drop=self.max_drop, **given) if asked else None

    @cached_property
    def before(self) -> dict[str, Any]:
        """Of the original, as a trial of no passes."""
        return self._here.figures((), timed=self.given.timed)

    def _written(self, points: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Models of the front in full, proofs and all data: spread along the first objective."""
        front = [one for one in points if one["front"] and one["passes"]]
        front.sort(key=lambda one: self.judged_by[0].cost(one))
        places = np.unique(np.linspace(0, len(front) - 1, min(self.write, len(front))).round().astype(int))
        for place in places.tolist() if front else ():
            point = front[place]
            path = Path(self.out) / FRONT / f"{point['name'].replace(' ', '-')}" / "model.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            with one_thread():
                made = run(
                    self.given.read(),
                    [pass_of(one) for one in point["passes"]],
                    data=self.data,
                    eval_data=self.eval_data,
                    preprocess=self.preprocess,
                    samples=self.samples,
                    metrics=self.metrics,
                    seed=self.seed,
                    out=path,
                    save_recipe=path.with_name("recipe.yaml"),
                    measure=False,
                    force=True,
                    memory=self.memory,
                    view=Unwarned(self.view),
                )
            accuracy = made.accuracy and made.accuracy["after"]
            fell = drop_warnings(made.as_dict(), limit=self.max_drop)
            yield {
                "name": point["name"],
                "out": str(path),
                **made.change.after.as_dict(),
                "accuracy": accuracy,
                "fell": bool(fell),
                "warnings": [one for one in made.warnings if one not in fell],
            }

    @staticmethod
    def _warnings(written: Sequence[dict[str, Any]]) -> list[str]:
        """Of all models that were written, each once; takes them out of what is told of each."""
        found = dict.fromkeys(told for one in written for told in one.pop("warnings"))
        fell = [one["name"] for one in written if one.pop("fell")]
        if fell:
            told = f"{len(fell)} of {len(written)} models that were written lose more than {LARGE_DROP:g} points"
            found[f"{told} ({', '.join(fell)}): --max-drop keeps such off the front"] = None
        return list(found)

    def _report(
        self,
        told: Told,
        points: list[dict[str, Any]],
        written: list[dict[str, Any]],
        warnings: list[str],
        seconds: float,
    ) -> dict[str, Any]:
        front = [one for one in points if one["front"]]
        found = {
            **envelope("search"),
            "model": str(self.model),
            "out": str(self.out),
            "passed": bool(front),
            "before": amounts(self._here.model).as_dict(),
            "original": {key: self.before[key] for key in ("accuracy", "latency_ms", "sqnr_db")},
            "strategy": spelled(self.strategy, "strategy"),
            "objectives": [one.name for one in self.judged_by],
            "parameters": self.open_space.as_dict(),
            "trials": len(points),
            "failed": sum(bool(one.figures.get("told")) for one in told.records),
            "stopped": sum(one.stopped for one in told.records),
            "hypervolume": volume(told, self.before),
            "predictors": taus(told),
            "points": points,
            "written": written,
            "limits": self._read_limits.as_dict() if self._read_limits else {},
            "search_seconds": seconds,
            "environment": dict(environment()),
            "notes": list(self._here.model.notes),
            "warnings": warnings,
        }
        if not front:
            found["error"] = {
                "what": f"none of {len(points)} trials keeps the limits",
                "why": "; ".join(dict.fromkeys(one["told"] for one in points if one["told"])) or "all miss one of them",
                "fix": "allow more, open more of the space, or try more (--trials)",
            }
        return found

    def _write(self, folder: Path, report: Mapping[str, Any]) -> None:
        texts = {
            REPORT: json.dumps(report, indent=1, ensure_ascii=False) + "\n",
            PAGE: html.render(report),
            WORDS: markdown.render(report),
        }
        save_all([Document(folder / name, text) for name, text in texts.items()])


def _opened(given: Given) -> Bench:
    return bench(json.dumps(plain(asdict(given)), sort_keys=True))


def _meets(record: Record, limits: Mapping[str, float], before: Mapping[str, Any]) -> bool:
    kept = {**record.figures["kept"], "latency": record.figures["latency_ratio"]}
    for name, limit in limits.items():
        if name == "max_drop":
            metric, was = next(iter(before["accuracy"].items()))
            if Worth.of(METRICS[metric]()).lost(was, record.figures["accuracy"][metric]) > limit:
                return False
        elif kept[{"size": "size_bytes"}.get(name, name)] > limit:
            return False
    return True


def taus(told: Told) -> dict[str, float]:
    """Of each predictor Kendall's tau between costs and what is predicted of them by other trials: the mean over objectives."""
    usable = told.usable[:_JUDGED]
    if len(usable) < _FEWEST:
        return {}
    rows, costs = features(told.space, told.places(usable)), told.costs(usable)
    return {
        name: float(np.mean([judged(PREDICTORS[name], rows, column, told.seed) for column in costs.T]))
        for name in PREDICTORS.builtin
    }


def volume(told: Told, before: Mapping[str, Any]) -> float:
    """What the front dominates, as a part of all between nothing and the original; qualities that are shares count from 0."""
    reference, scale = [], []
    for one in told.objectives:
        quality = one.name in ("accuracy", "sqnr_db", "agreement")
        most = one.figure({**before, "sqnr_db": 60.0, "agreement": 1.0}) if quality else 1.0
        reference.append(0.0 if quality else 1.0)
        scale.append(abs(most or 0.0) or 1.0)
    costs = told.costs() / np.array(scale)
    return hypervolume(costs, np.array(reference)) if len(costs) else 0.0


def search(
    model: str | PathLike[str], out: str | PathLike[str], space: Sequence[str] = (), **given: Any
) -> dict[str, Any]:
    """Try many recipes on a model and write those that nothing beats, with a report of all.

    What may be given stands in ``Searching``.
    """
    return Searching(model, out, space, **given).run()
