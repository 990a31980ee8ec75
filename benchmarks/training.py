"""What training wins back, without labels, of what passes lost: accuracy before and after so many steps.

    python -m benchmarks.training net.onnx --data train.npz --eval-data test.npz --preprocess imagenet --csv rows.csv
    ... --starts "prune:target=macs,keep=0.35,criterion=obspa" --minutes 1 --seeds 3

MODEL is an image classifier, and the teacher. Each start is a pass with its options, calibrated on the first 1,024 samples of
the data; all samples are trained on. Each start is made once and kept in ``--work``; a seed decides on the order of samples,
how images are changed and which are held back. With ``--csv`` rows are written as they come, and what the file holds is not
measured again: stop it, and start it anew. ``--minutes`` of a free core are turned into steps by ``train`` itself, and the
steps are told; "CPU s" is processor time of training alone, on one thread.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from intaglio import Train, load, run
from intaglio.graph.errors import NothingChanged
from intaglio.graph.spec import split
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import open_data
from intaglio.passes.base import PASSES

from .parts.trials import setting

STARTS = (
    "prune:target=macs,keep=0.35,criterion=obspa",
    "prune:target=macs,keep=0.25,criterion=obspa",
    "factorize:target=macs,keep=0.25,measure=false",
    "quantize:scheme=w4a4",
    "quantize:scheme=w2",
    "binarize:scheme=xnor",
    "binarize:scheme=planes",
)
CALIBRATION = 1024


@dataclass(frozen=True)
class Row:
    """Accuracies in percent. Training as long as ``budget`` says took so many steps and processor seconds."""

    model: str
    start: str
    budget: str
    seed: int
    before: float
    after: float
    steps: int
    cpu_s: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.model, self.start, self.budget, self.seed


def read(file: Path | None) -> list[Row]:
    if file is None or not file.exists():
        return []
    kinds: dict[str, Any] = {"seed": int, "before": float, "after": float, "steps": int, "cpu_s": float}
    with file.open(newline="") as text:
        return [
            Row(**{name: kinds.get(name, str)(value) for name, value in one.items()}) for one in csv.DictReader(text)
        ]


def append(file: Path | None, row: Row) -> None:
    if file is None:
        return
    new = not file.exists()
    with file.open("a", newline="") as text:
        writer = csv.DictWriter(text, [one.name for one in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def made(start: str, args: argparse.Namespace) -> Path:
    """The model that training starts from."""
    name, options = split(start, "pass")
    out = Path(args.work) / f"{Path(args.model).stem}-{re.sub(r'[^A-Za-z0-9.]+', '-', start)}.onnx"
    if not out.exists():
        data = {"data": args.data, "preprocess": args.preprocess, "samples": CALIBRATION}
        run(args.model, PASSES[name](**options), **data, out=out, measure=False, force=True)
    return out


def top1(path: Path, args: argparse.Namespace) -> float:
    model = load(path)
    source = open_data(args.eval_data, model, preprocess=args.preprocess)
    return 100 * evaluate_model(model, source, names=["top1"]).values["top1"]


def measured(start: str, seed: int, args: argparse.Namespace) -> Row:
    """Accuracy is that of the start where nothing was gained."""
    path, out = made(start, args), Path(args.work) / "trained.onnx"
    before, began = top1(path, args), time.process_time()
    one = Train(teacher=args.model, steps=args.steps, minutes=args.minutes, threads=1)
    about = (Path(args.model).stem, start, budget(args), seed)
    try:
        done = run(path, one, data=args.data, preprocess=args.preprocess, seed=seed, out=out, measure=False, force=True)
    except NothingChanged:
        return Row(*about, before, before, args.steps or 0, round(time.process_time() - began, 1))
    seconds, told = time.process_time() - began, done.as_dict().get("training", {})
    return Row(*about, before, top1(out, args), told.get("steps", args.steps or 0), round(seconds, 1))


def budget(args: argparse.Namespace) -> str:
    return f"{args.minutes:g} min" if args.minutes else f"{args.steps} steps"


def rows(args: argparse.Namespace) -> Iterator[Row]:
    known = {row.key: row for row in read(args.csv)}
    for start in args.starts:
        for seed in range(args.seeds):
            row = known.get((Path(args.model).stem, start, budget(args), seed))
            if row is None:
                row = measured(start, seed, args)
                append(args.csv, row)
            print(" | ".join(str(value) for value in asdict(row).values()), flush=True)
            yield row


def table(found: Iterable[Row]) -> Table:
    result = Table("start", "before", "after", "steps", "CPU s", title=f"top-1 in %; {setting('torch')}")
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(row.start, []).append(row)
    for start, some in groups.items():
        after = [row.after for row in some]
        spread = f" ± {statistics.stdev(after):.2f}" if len(after) > 1 else ""
        steps, seconds = some[0].steps, statistics.median(row.cpu_s for row in some)
        told = f"{statistics.mean(after):.2f}{spread}"
        result.add_row(start, f"{some[0].before:.2f}", told, f"{steps}", f"{seconds:.0f}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval-data", required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--starts", nargs="+", default=STARTS)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--work", default="training-models", help="where starts are kept")
    args = parser.parse_args()
    args.steps = args.steps or (None if args.minutes else 190)
    Path(args.work).mkdir(exist_ok=True)
    Console().print(table(rows(args)))


if __name__ == "__main__":
    main()
