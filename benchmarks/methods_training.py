"""Every method of training on one network: accuracy and what is left of the weights, in so many steps.

    python -m benchmarks.methods_training net.onnx --data train.npz --eval-data test.npz --steps 200
    ... --methods gmp:density=0.1 imp:rounds=3 --ranks 0.35

MODEL is an image classifier and the teacher; labels are not used. "without" is what the same weights give when they go at once, by
magnitude alone. ``--ranks`` holds trp to calibrated factorization at so much of the MACs: alone, distilled for as many steps, and
behind trp. A shortened schedule: it shows that a method works and what it costs, not what it reaches in a paper's time. "CPU s" is
processor time of training alone, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from intaglio import Factorize, Train, load, run
from intaglio.graph.errors import NothingChanged
from intaglio.graph.io.save import save
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import open_data

from .parts.trials import setting

METHODS = (
    "distill",
    "blockwise",
    "gmp:density=0.1",
    "imp:rounds=3,drop=0.5",
    "ap:rounds=3,drop=0.5",
    "colt:rounds=2,drop=0.5",
    "jackpot:density=0.1",
    "edge-popup:density=0.5,recycle=50",
    "gumbel:weight=1",
    "ssa:density=0.1",
    "issp:density=0.1",
    "irrelevant:density=0.1",
    "continuous:weight=1",
    "pb",
    "binarydm",
)


def top1(model: Model, args: argparse.Namespace) -> float:
    source = open_data(args.eval_data, model, preprocess=args.preprocess)
    return 100 * evaluate_model(model, source, names=["top1"]).values["top1"]


def trained(path: Path | str, method: str, args: argparse.Namespace, out: Path) -> tuple[Model, float]:
    """The model, which is as given where nothing was gained, and processor seconds."""
    one = Train(
        teacher=args.model, method=method, steps=args.steps, batch=args.batch, lr=args.lr, threads=1, bf16=False
    )
    began = time.process_time()
    try:
        run(path, one, data=args.data, preprocess=args.preprocess, out=out, measure=False, force=True)
    except NothingChanged:
        return load(path), time.process_time() - began
    return load(out), time.process_time() - began


def matrices(model: Model) -> dict[str, np.ndarray]:
    return {one.weight: model.weights[one.weight] for one in Layers(model).weighted}


def there(model: Model) -> float:
    """The share of the weights of layers that are not zero."""
    weights = matrices(model).values()
    return sum(np.count_nonzero(w) for w in weights) / sum(w.size for w in weights)


def cut(model: Model, share: float) -> Model:
    """The largest weights of all alone."""
    result, sizes = model.copy(), {name: np.abs(w) for name, w in matrices(model).items()}
    limit = np.quantile(np.concatenate([one.reshape(-1) for one in sizes.values()]), 1 - share)
    for name, size in sizes.items():
        result.put(name, np.where(size < limit, np.float32(0), model.weights[name]))
    return result


def rows(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, ...]]:
    model = load(args.model)
    for method in args.methods:
        made, seconds = trained(args.model, method, args, folder / "trained.onnx")
        share = there(made)
        without = f"{top1(cut(model, share), args):.2f}" if share < 0.99 else ""
        yield method, without, f"{top1(made, args):.2f}", f"{100 * share:.1f}", f"{seconds:.0f}"


def ranks(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, ...]]:
    """Factorization at a share of the MACs: alone, distilled, and of what trp trained."""
    split = Factorize(target="macs", keep=args.ranks, measure=False)
    data = {"data": args.data, "preprocess": args.preprocess, "measure": False, "force": True}
    alone, of_trp = folder / "alone.onnx", folder / "of_trp.onnx"
    run(args.model, split, out=alone, **data)
    yield f"factorize --macs {args.ranks}", "", f"{top1(load(alone), args):.2f}", "", "0"
    made, seconds = trained(alone, "distill", args, folder / "distilled.onnx")
    yield "the same, distilled", "", f"{top1(made, args):.2f}", "", f"{seconds:.0f}"
    made, seconds = trained(args.model, args.trp, args, folder / "trp.onnx")
    save(made, folder / "trp.onnx")
    run(folder / "trp.onnx", split, out=of_trp, **data)
    yield f"{args.trp}, then factorize", "", f"{top1(load(of_trp), args):.2f}", "", f"{seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval-data", required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--ranks", type=float)
    parser.add_argument("--trp", default="trp:every=10,energy=0.8")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float)
    args = parser.parse_args()
    title = f"top-1 in %, {top1(load(args.model), args):.2f} as given; shortened schedule, {args.steps} steps of {args.batch}"
    table = Table("method", "without", "trained", "weights in %", "CPU s", title=f"{title}; {setting('torch')}")
    with TemporaryDirectory() as folder:
        for row in chain(rows(args, Path(folder)), ranks(args, Path(folder)) if args.ranks else ()):
            table.add_row(*row)
            print(" | ".join(row), flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
