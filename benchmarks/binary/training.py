"""Binary networks out of one of floats: operators times estimators, each trained, packed and held to the original.

    python -m benchmarks.binary.training net.onnx --data train.npz --eval-data test.npz --steps 500 --lr 0.01
    ... --operators react dorefa --estimators ste reste

MODEL is an image classifier and the teacher; labels are not used. "packed" says whether all predictions of the packed file are
those of the trained one. A shortened schedule: seconds to minutes, where papers train for hundreds of epochs. "CPU s" is
processor time of training alone, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from intaglio import Binarize, Train, load, run
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session

from ..parts.trials import setting

OPERATORS = ("react", "bireal", "dorefa", "bnn", "xnor", "xnor++", "recu", "fda")
ESTIMATORS = ("ste", "polynomial", "reste", "biper")


def trained(args: argparse.Namespace, operator: str, estimator: str | None, out: Path) -> float:
    """Writes the network; processor seconds."""
    one = Train(
        teacher=args.model,
        operator=operator,
        estimator=estimator,
        steps=args.steps,
        lr=args.lr,
        batch=args.batch,
        augmentations=tuple(args.augment),
        threads=1,
        bf16=False,
    )
    began = time.process_time()
    run(args.model, one, data=args.data, preprocess=args.preprocess, seed=args.seed, out=out, measure=False, force=True)
    return time.process_time() - began


def predictions(path: Path, args: argparse.Namespace) -> np.ndarray:
    model = load(path)
    session, name = open_session(path), model.graph.output[0].name
    source = open_data(args.eval_data, model, preprocess=args.preprocess)
    return np.concatenate([run_session(session, batch.inputs, [name])[name].argmax(1) for batch in source.batches(100)])


def top1(path: Path, args: argparse.Namespace) -> float:
    model = load(path)
    source = open_data(args.eval_data, model, preprocess=args.preprocess)
    return 100 * evaluate_model(model, source, names=["top1"]).values["top1"]


def rows(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    for operator in args.operators:
        for estimator in args.estimators:
            with TemporaryDirectory() as folder:
                out, small = Path(folder) / "binary.onnx", Path(folder) / "packed.onnx"
                seconds = trained(args, operator, estimator, out)
                report = run(out, Binarize(scheme="pack"), out=small, measure=False)
                same = np.array_equal(predictions(out, args), predictions(small, args))
                layers = len(report.as_dict()["layers"])
                told = f"{layers} layers, {'equal' if same else 'NOT EQUAL'}"
                yield operator, estimator, f"{top1(out, args):.2f}", told, f"{small.stat().st_size:,}", f"{seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval-data", required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--operators", nargs="+", default=OPERATORS)
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS)
    parser.add_argument("--augment", nargs="+", default=["crop:pixels=1"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    title = f"top-1 in %, {top1(Path(args.model), args):.2f} in floats; shortened schedule, {args.steps} steps of {args.batch}"
    table = Table("operator", "estimator", "top-1", "packed", "bytes", "CPU s", title=f"{title}; {setting('torch')}")
    for row in rows(args):
        table.add_row(*row)
        print(" | ".join(row), flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
