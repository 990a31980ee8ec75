"""What training wins back, without labels, of what passes lost: accuracy before and after so many steps.

    python -m benchmarks.training net.onnx --data train.npz --eval-data test.npz --preprocess imagenet
    ... --starts "prune:target=macs,keep=0.35,criterion=obspa" --steps 190 --seeds 3

MODEL is an image classifier, and the teacher. Each start is a pass with its options, calibrated on the first 1,024 samples of
the data; all samples are trained on. Each start is made once; a seed decides on the order of samples, how images are changed and
which are held back. "CPU s" is processor time of training alone, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from intaglio import Train, load, run
from intaglio.graph.errors import NothingChanged
from intaglio.graph.spec import split
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import open_data
from intaglio.passes.base import PASSES

from .trials import setting

STARTS = (
    "prune:target=macs,keep=0.35,criterion=obspa",
    "prune:target=macs,keep=0.25,criterion=obspa",
    "factorize:target=macs,keep=0.25,measure=false",
    "quantize:scheme=w4a4",
    "quantize:scheme=w2",
)
CALIBRATION = 1024


def made(start: str, args: argparse.Namespace, folder: Path) -> Path:
    """The model that training starts from."""
    name, options = split(start, "pass")
    out = folder / "start.onnx"
    data = {"data": args.data, "preprocess": args.preprocess, "samples": CALIBRATION}
    run(args.model, PASSES[name](**options), **data, out=out, measure=False, force=True)
    return out


def top1(path: Path, args: argparse.Namespace) -> float:
    model = load(path)
    source = open_data(args.eval_data, model, preprocess=args.preprocess)
    return 100 * evaluate_model(model, source, names=["top1"]).values["top1"]


def trained(path: Path, seed: int, args: argparse.Namespace, folder: Path) -> tuple[float, float, dict[str, Any]]:
    """Accuracy and processor seconds; those of the start where nothing was gained."""
    out, began = folder / "trained.onnx", time.process_time()
    one = Train(teacher=args.model, steps=args.steps, threads=1)
    try:
        report = run(path, one, data=args.data, preprocess=args.preprocess, seed=seed, out=out, measure=False)
    except NothingChanged:
        return top1(path, args), time.process_time() - began, {}
    return top1(out, args), time.process_time() - began, report.as_dict()["training"]


def rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    for start in args.starts:
        with TemporaryDirectory() as folder:
            path = made(start, args, Path(folder))
            before = top1(path, args)
            found = [trained(path, seed, args, Path(folder)) for seed in range(args.seeds)]
        after = [score for score, _, _ in found]
        spread = f" ± {statistics.stdev(after):.2f}" if len(after) > 1 else ""
        seconds = statistics.median(one for _, one, _ in found)
        yield start, f"{before:.2f}", f"{statistics.mean(after):.2f}{spread}", f"{args.steps}", f"{seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval-data", required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--starts", nargs="+", default=STARTS)
    parser.add_argument("--steps", type=int, default=190)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    table = Table("start", "before", "after", "steps", "CPU s", title=f"top-1 in %; {setting('torch')}")
    for row in rows(args):
        table.add_row(*row)
        print(" | ".join(row), flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
