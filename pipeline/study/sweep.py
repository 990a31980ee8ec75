"""``sweep``: ways of pruning compared at several sizes, with seeds and spread."""

from __future__ import annotations

import csv
import io
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...graph.errors import IntaglioError, UsageError
from ...graph.io.save import Document, save_all
from ...graph.spec import Spec
from ...measure.executors.executor import EXECUTORS
from ...passes.change import amounts
from ...passes.prune.criteria.criteria import CRITERIA
from .. import html
from ..envelope import envelope, environment
from ..formats import markdown
from ..run import Logged, View
from ..text import plain
from .cache import MOST, made_folder
from .objectives import best
from .search import PAGE, REPORT, WORDS
from .trial import FUNCTION, Given, bench, given_of, task_of

TABLE = "sweep.csv"
MADE_UP = ("noise", "distilled")
"""Dialects that take no data."""
Unit = Literal["macs", "params", "size", "channels"]


@dataclass(frozen=True)
class Method:
    """A criterion, on which data it runs, and what makes up for what is gone: ``obspa``, ``obspa:noise``, ``l2+refit``."""

    name: str
    criterion: str
    dialect: str | None
    repair: str | None

    @classmethod
    def read(cls, name: str) -> Method:
        """Raises UsageError for a criterion that is not there."""
        rest, _, repair = name.partition("+")
        criterion, _, dialect = rest.partition(":")
        known = dialect in ("id", "ood", *MADE_UP)
        _ = CRITERIA.entry(criterion if known else rest)
        return cls(name, criterion if known else rest, dialect if known else None, repair or None)

    def seeded(self, data: bool) -> bool:
        """Whether another seed may give another result."""
        return data or self.criterion == "random" or self.dialect in MADE_UP

    def passes(self, unit: str, keep: float) -> list[dict[str, Any]]:
        told = {"criterion": self.criterion, "dialect": self.dialect, "repair": self.repair}
        return [{"pass": "prune", "target": unit, "keep": keep, **{k: v for k, v in told.items() if v is not None}}]


@dataclass(frozen=True)
class Sweep:
    """What ``sweep`` is given: each method is tried at each fraction ``keep`` of the ``target``, with ``seeds`` seeds from
    ``seed`` on, which draw the calibration samples, too.
    """

    model: str | PathLike[str]
    out: str | PathLike[str]
    methods: Sequence[str]
    keep: Sequence[float]
    _: KW_ONLY
    seeds: int = 3
    target: Unit = "macs"
    data: str | None = None
    eval_data: str | None = None
    preprocess: str | None = None
    samples: int | None = 512
    metrics: Sequence[str] = ()
    executor: Spec = "local"
    workers: int = 1
    cache: str | PathLike[str] | None = None
    cache_bytes: int = MOST
    seed: int = 0
    view: View = field(default_factory=Logged)

    def run(self) -> dict[str, Any]:
        """Do it, and write the folder; gives the report. What an earlier run tried is not tried again."""
        started, folder = time.perf_counter(), Path(self.out)
        if not self.methods or not self.keep or any(not 0 < one <= 1 for one in self.keep) or self.seeds < 1:
            raise UsageError("a sweep needs methods, fractions above 0 and up to 1, and seeds")
        if not (self.data or self.eval_data):
            raise UsageError("nothing tells how good a result is", fix="add --eval-data SOURCE, or --data SOURCE")
        with made_folder(folder):
            rows = self._rows()
            if all(one["told"] for one in rows):
                raise IntaglioError("no method could be run", why=str(rows[0]["told"]))
        report = plain(self._report(rows, time.perf_counter() - started))
        texts = {
            REPORT: json.dumps(report, indent=1, ensure_ascii=False) + "\n",
            PAGE: html.render(report),
            WORDS: markdown.render(report),
            TABLE: _csv(rows),
        }
        save_all([Document(folder / name, text) for name, text in texts.items()])
        return report

    def _rows(self) -> list[dict[str, Any]]:
        asked = list(self._asked())
        rows = []
        with closing(EXECUTORS[self.executor](self.workers)) as executor, self.view.progress("trying") as tick:
            self._given.share(executor)
            outcomes = executor.each(FUNCTION, [task_of(given, passes) for _, _, _, given, passes in asked])
            for (method, keep, seed, _, passes), outcome in zip(asked, outcomes, strict=True):
                found = {"told": outcome.lost} if outcome.lost else outcome.value
                rows.append({"method": method, "keep": keep, "seed": seed, "passes": passes, **found})
                tick(len(rows), len(asked))
        return rows

    def _asked(self) -> Iterator[tuple[str, float, int, Given, list[dict[str, Any]]]]:
        for method in map(Method.read, self.methods):
            noise = method.dialect in MADE_UP
            for seed in range(self.seed, self.seed + (self.seeds if method.seeded(self.data is not None) else 1)):
                given = replace(self._given, seed=seed, data=None if noise else self.data, drawn=not noise)
                for keep in self.keep:
                    yield method.name, keep, seed, given, method.passes(self.target, keep)

    @cached_property
    def _given(self) -> Given:
        return given_of(self, Path(self.out))

    @cached_property
    def _before(self) -> Mapping[str, Any]:
        opened = bench(json.dumps(plain(asdict(self._given)), sort_keys=True))
        return {**opened.figures((), timed=False), "before": amounts(opened.model).as_dict()}

    def _report(self, rows: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
        points = list(_points(rows))
        quality = "accuracy" if self.eval_data else "sqnr_db"
        return {
            **envelope("sweep"),
            "model": str(self.model),
            "out": str(self.out),
            "before": self._before["before"],
            "original": {key: self._before[key] for key in ("accuracy", "sqnr_db")},
            "target": self.target,
            "objectives": [quality, self.target],
            "trials": len(rows),
            "points": points,
            "rows": [{key: row.get(key) for key in _COLUMNS} for row in rows],
            "search_seconds": seconds,
            "environment": dict(environment()),
            "notes": [],
            "warnings": [],
        }


_COLUMNS = ("method", "keep", "seed", "accuracy", "sqnr_db", "kept", "size_bytes", "macs", "params", "seconds", "told")
_FIGURES = ("size_bytes", "macs", "params", "seconds", "sqnr_db", "agreement", "latency_ms", "latency_ratio")


def _points(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each method and size the means over seeds, and the spread of accuracy."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["keep"]), []).append(row)
    made = []
    for (method, keep), some in groups.items():
        done = [one for one in some if not one.get("told")]
        told = "" if done else str(some[0]["told"])
        means = {name: _mean([one[name] for one in done]) for name in _FIGURES}
        names = list(done[0]["accuracy"] or ()) if done else []
        rates = {name: [one["accuracy"][name] for one in done] for name in names}
        counted = {name: round(means[name] or 0) for name in ("size_bytes", "macs", "params")}
        made.append(
            {
                **means,
                **counted,
                "seconds": means["seconds"] or 0.0,
                "name": f"{method} {keep:g}",
                "passes": some[0]["passes"],
                "kept": {k: _mean([one["kept"][k] for one in done]) for k in (done[0]["kept"] if done else ())},
                "accuracy": {name: statistics.mean(found) for name, found in rates.items()} or None,
                "spread": {n: statistics.stdev(found) if len(found) > 1 else 0.0 for n, found in rates.items()} or None,
                "seeds": len(done),
                "meets": bool(done),
                "chosen": False,
                "told": told,
            }
        )
    costs = np.array([_costs(one) for one in made])
    yield from ({**one, "front": bool(on)} for one, on in zip(made, best(costs), strict=True))


def _costs(point: Mapping[str, Any]) -> list[float]:
    quality = next(iter((point["accuracy"] or {}).values()), point["sqnr_db"])
    return [
        np.inf if quality is None else -quality,
        point["kept"].get("macs", np.inf),
        point["kept"].get("size_bytes", np.inf),
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    found = [one for one in values if one is not None]
    return statistics.mean(found) if found else None


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in row.get("accuracy") or ()))
    kept = list(dict.fromkeys(name for row in rows for name in row.get("kept") or ()))
    plainly = ("method", "keep", "seed", "sqnr_db", "size_bytes", "macs", "params", "seconds", "told")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*plainly, *metrics, *(f"kept_{name}" for name in kept)])
    for row in rows:
        rates, shares = row.get("accuracy") or {}, row.get("kept") or {}
        table.writerow([*(row.get(n) for n in plainly), *map(rates.get, metrics), *map(shares.get, kept)])
    return text.getvalue()


def sweep(
    model: str | PathLike[str], out: str | PathLike[str], methods: Sequence[str], keep: Sequence[float], **given: Any
) -> dict[str, Any]:
    """Compare ways of pruning. What may be given stands in ``Sweep``."""
    return Sweep(model, out, methods, keep, **given).run()
