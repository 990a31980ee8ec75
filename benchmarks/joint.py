"""Every pass alone, every chain of two and what a search chooses, on the same images: bytes, time, accuracy, seconds.

Rows are written to a CSV as they come, and what it holds is not measured again: ``python -m benchmarks.joint --csv
joint.csv --models resnet20 --limits size=0.125 "size=0.15 latency=0.45"``; ``--table`` prints the tables of a document.
Searches and passes see no labels.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import load
from intaglio.graph.errors import IntaglioError
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.batch import open_for_batches
from intaglio.measure.run.pairing import output_differences, pair_models
from intaglio.measure.run.session import open_session
from intaglio.passes.base import Context, Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.factorize import Factorize
from intaglio.passes.prune import PruneChannels
from intaglio.passes.prune.depth.branches import branches
from intaglio.passes.quantize import Quantize
from intaglio.pipeline.search.chains import Chains
from intaglio.pipeline.search.limits import AMOUNTS, Limits
from intaglio.pipeline.search.result import Point
from intaglio.pipeline.search.search import search
from intaglio.pipeline.steps import Store

from .parts.trials import setting

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LIMITS = (
    *("size=0.25", "size=0.125", "size=0.08"),
    *("latency=0.5", "latency=0.45", "latency=0.38", "size=0.15 latency=0.45"),
)
TOLERANCE = 0.03
"""Of times, which differ by so much between two measurements of one file."""


@dataclass(frozen=True)
class Subject:
    """A network, what it is calibrated and evaluated on, and how many samples of the former are used."""

    model: str
    data: str
    labelled: str
    samples: int
    preprocess: str | None = None


CIFAR = "cifar10_train_calib2000.npz", "cifar10_test_first2000.npz", 1024
SUBJECTS = {
    "resnet20": Subject("resnet20.onnx", *CIFAR, "cifar10"),
    "resnet8": Subject("mlperf-resnet8.onnx", *CIFAR, "layout=nchw"),
    "ds-cnn": Subject(
        "kws_dscnn_from_drq_tflite.onnx",
        "kws01_even500.npz",
        "kws01_even500.npz",
        250,
        "offset=-83,scale=0.5847029,shape=1x49x10",
    ),
    "detector": Subject("version-slim-320.onnx", "", "", 64),
    "transformer": Subject("vit_digits.onnx", "digits_calib.npz", "digits_test.npz", 512),
    "digits": Subject("digits.onnx", "digits_calib.npz", "digits_test.npz", 512),
}


NOTHING = (np.nan, np.nan, np.nan, np.nan)
"""The amounts and the score of what could not be run."""


@dataclass(frozen=True)
class Row:
    """``kind`` is single, chain or compress. Fractions are of the original; ``score`` is top-1, or decibels without labels."""

    model: str
    kind: str
    name: str
    size: float
    macs: float
    latency: float
    score: float
    seconds: float
    cpu_s: float
    chose: str = ""


def main() -> None:
    options = parse()
    book = Book(options.csv)
    for name in options.models:
        bench = Bench(name, Path(options.data), options.csv.parent)
        for kind, row, passes in bench.fixed(options.only):
            book.add(
                name, kind, row, lambda bench=bench, kind=kind, row=row, passes=passes: bench.chain(kind, row, passes)
            )
        for limits in options.limits:
            book.add(name, "compress", limits, lambda bench=bench, limits=limits: bench.compress(limits))
    if options.table:
        print(f"{setting()}\n\n{tables(book.rows, options.models, options.limits)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("INTAGLIO_DATA", "."), help="folder of models and images")
    parser.add_argument("--csv", type=Path, default=Path("joint.csv"))
    parser.add_argument("--models", nargs="*", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--limits", nargs="*", default=LIMITS)
    parser.add_argument("--only", nargs="*", help="of the fixed rows these; none without names")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


class Book:
    """Rows of a CSV."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[Row]()
        if path.exists():
            with path.open(newline="") as file:
                self.rows = [_read(one) for one in csv.DictReader(file)]

    def add(self, model: str, kind: str, name: str, measure: Any) -> None:
        if any((one.model, one.kind, one.name) == (model, kind, name) for one in self.rows):
            return
        self.rows.append(measure())
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(one) for one in self.rows)
        print(self.rows[-1], flush=True)


def _read(told: Mapping[str, str]) -> Row:
    texts = ("model", "kind", "name", "chose")
    return Row(**{key: value if key in texts else float(value) for key, value in told.items()})  # type: ignore[arg-type]


class Bench:
    """One network with its data."""

    def __init__(self, name: str, data: Path, scratch: Path) -> None:
        self.name, self.subject = name, SUBJECTS[name]
        self.model, self.close = open_for_batches(load(_found(self.subject.model, data)))
        calibration, test = self._sources(data, scratch)
        self.test = test
        self.context = Context(data=calibration)
        self.store = Store(scratch / "joint-steps" / name, name)
        self.chains = Chains(self.model, self.context, self.store, self.close)

    def _sources(self, data: Path, scratch: Path) -> tuple[DataSource, DataSource]:
        one = self.subject
        if not one.data:
            paths = [str(scratch / f"{self.name}-{part}.npz") for part in ("calibration", "test")]
            photographs(data / CIFAR[0], paths, self.model.graph.input[0].name)
            return open_data(paths[0], self.model), open_data(paths[1], self.model)
        first = open_data(str(_found(one.data, data)), self.model, preprocess=one.preprocess, samples=one.samples)
        return first, open_data(str(_found(one.labelled, data)), self.model, preprocess=one.preprocess)

    def fixed(self, only: Sequence[str] | None) -> Iterator[tuple[str, str, tuple[Pass, ...]]]:
        for kind, name, passes in fixed_rows(bool(branches(self.model))):
            if only is None or name in only:
                yield kind, name, passes

    def chain(self, kind: str, name: str, passes: tuple[Pass, ...]) -> Row:
        started = time.process_time()
        point = self.chains.point(name, passes, timed=True)
        return self._row(kind, name, point, passes, time.process_time() - started)

    def compress(self, limits: str) -> Row:
        started = time.process_time()
        asked = Limits.read(**dict(word.split("=") for word in limits.split()))  # type: ignore[arg-type]
        try:
            found = search(self.model, asked, self.context, close=self.close)  # nothing that was done before counts
        except IntaglioError as error:
            return Row(self.name, "compress", limits, *NOTHING, 0, time.process_time() - started, error.what)
        took = time.process_time() - started
        model = found.changes[-1].model if found.changes else self.model
        timing = self.chains.time(model)
        point = replace(found.chosen, latency_ratio=1 / timing.speedup(1))
        told = found.chosen.name + (f"; {found.refusal.what}" if found.refusal else "")
        return replace(
            self._scored("compress", limits, point, model, took), chose=told, seconds=round(found.seconds, 1)
        )

    def _row(self, kind: str, name: str, point: Point, passes: tuple[Pass, ...], took: float) -> Row:
        if point.told:
            return Row(self.name, kind, name, *NOTHING, round(point.seconds, 1), round(took, 1), point.told)
        return self._scored(kind, name, point, self.chains.model(passes), took)

    def _scored(self, kind: str, name: str, point: Point, model: Model, took: float) -> Row:
        kept, ratio = point.kept, point.latency_ratio or float("nan")
        size, macs, time_kept, score = (
            round(float(x), 4) for x in (kept["size_bytes"], kept["macs"], ratio, self.score(model))
        )
        return Row(self.name, kind, name, size, macs, time_kept, score, round(point.seconds, 1), round(took, 1))

    def score(self, model: Model) -> float:
        if self.test.labelled:
            return 100 * evaluate_model(model, self.test).values["top1"]
        found, _ = output_differences(
            [open_session(one) for one in (self.model, model)], pair_models(self.model, model), self.test.batches(64)
        )
        return min(one.sqnr_db for one in found.values() if one.signal)


def fixed_rows(branched: bool) -> Iterator[tuple[str, str, tuple[Pass, ...]]]:
    """Passes alone, then two in a row; those that leave out branches of residual sums where there are any."""
    precise: dict[str, Pass] = {s: Quantize(scheme=s) for s in ("int8", "w8", "w4", "w3", "w2", "fp16", "dynamic")}
    precise |= {f"mixed {s:g}": Quantize(size=s) for s in (0.25, 0.125, 0.08)}
    precise |= {f"int8 {s:g}": Quantize(scheme="int8", size=s) for s in (0.25, 0.15, 0.125)} | {"planes": Binarize()}
    narrow: dict[str, Pass] = {f"prune {k:g}": PruneChannels(target="macs", keep=k) for k in (0.7, 0.5, 0.35)}
    narrow |= {f"factorize {k:g}": Factorize(target="macs", keep=k, measure=False) for k in (0.7, 0.5, 0.35)}
    narrow |= {f"prune latency {k:g}": PruneChannels(target="latency", keep=k) for k in (0.7, 0.5)}
    narrow |= {"factorize latency 0.7": Factorize(target="latency", keep=0.7)}
    shallow: dict[str, Pass] = {}
    if branched:
        for target, word in (("macs", ""), ("latency", "latency ")):
            asked = {k: {"axis": "depth", "target": target, "keep": k} for k in (0.85, 0.7, 0.5)}
            shallow |= {f"depth {word}{k:g}": PruneChannels.model_validate(one) for k, one in asked.items()}
    yield from (("single", name, (one,)) for name, one in {**precise, **narrow, **shallow}.items())
    for first, one in {**narrow, **shallow}.items():
        behind = ("int8", "w4", "w2", *(["dynamic"] if first in shallow else []))
        yield from (("chain", f"{first} > {then}", (one, precise[then])) for then in behind)


def photographs(path: Path, out: Sequence[str], name: str) -> None:
    """Small photographs made as large as the detector's input: half to calibrate, half to compare outputs on."""
    if all(Path(one).exists() for one in out):
        return
    from PIL import Image

    with np.load(path) as stored:
        small = stored["x"][:128]
    large = np.stack([np.asarray(Image.fromarray(one).resize((320, 240), Image.Resampling.BILINEAR)) for one in small])
    inputs = ((large.transpose(0, 3, 1, 2) - 127.0) / 128).astype(np.float32)
    for one, some in zip(out, (inputs[:64], inputs[64:]), strict=True):
        np.savez(one, **{name: some})  # type: ignore[arg-type]


def _found(name: str, data: Path) -> Path:
    return data / name if (data / name).exists() else EXAMPLES / name


def tables(rows: Sequence[Row], models: Sequence[str], limits: Sequence[str]) -> str:
    """For each network the best fixed row within each limit beside what the search chose."""
    parts = []
    for model in models:
        mine = [one for one in rows if one.model == model]
        lines = ["| within | best pass or chain | score | size | time | compress chose | score | size | time | CPU s |"]
        lines.append("| --- | --- | --: | --: | --: | --- | --: | --: | --: | --: |")
        lines += [_line(mine, one) for one in limits]
        parts.append("\n".join([f"## {model}", "", *lines]))
    return "\n\n".join(parts)


def _line(rows: Sequence[Row], limits: str) -> str:
    asked = dict(Limits.read(**dict(w.split("=") for w in limits.split())).fractions(dict.fromkeys(AMOUNTS, 1.0)))  # type: ignore[arg-type]
    met = [one for one in rows if one.kind != "compress" and all(_keeps(one, *limit) for limit in asked.items())]
    best = max(met, key=lambda one: one.score, default=None)
    found = next((one for one in rows if (one.kind, one.name) == ("compress", limits)), None)
    cells = _cells(best, best.name if best else "none")
    chose = (
        [
            *_cells(found, found.chose.replace("; no chain", ", the nearest; no chain").partition(";")[0]),
            f"{found.cpu_s:.0f}",
        ]
        if found
        else ["not run", "", "", "", ""]
    )
    return f"| `{limits}` | {' | '.join([*cells, *chose])} |"


def _cells(one: Row | None, name: str) -> list[str]:
    return [name, f"{one.score:.2f}", f"{one.size:.3f}", f"{one.latency:.2f}"] if one else [name, "", "", ""]


def _keeps(one: Row, name: str, limit: float) -> bool:
    return getattr(one, name) <= limit * (1 + TOLERANCE if name == "latency" else 1)


if __name__ == "__main__":
    main()
