"""BiBench's tracks: what binary operators keep over tasks and architectures, what they withstand, cost and save.

    python -m benchmarks.binary.bibench --case "digits,cnn=examples/digits.onnx,train.npz,examples/digits_test.npz" \\
        --case "digits,transformer=examples/vit_digits.onnx,train.npz,examples/digits_test.npz" --steps 300

A case is TASK,ARCHITECTURE=MODEL,TRAINING,TEST[,PREPROCESS]: an image classifier, the teacher, and labelled data. Each operator
is trained on each case without labels, with its own estimator, and packed. Scores are percent of the floats' own; over tasks,
architectures, corruptions, and the two halves of a track they are joined by the quadratic mean. A shortened schedule: it orders
operators by what they reach in so many steps, not by what they can.

Source: Qin et al., "BiBench", ICML 2023, arXiv:2301.11233. Differs: of training it has the speed alone unless there are several
seeds; inference is the theoretical speed-up and the storage of weights, as no device is at hand.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from intaglio import Binarize, Train, load, run
from intaglio.graph.errors import NothingChanged
from intaglio.measure.accuracy import Evaluation, evaluate_model
from intaglio.measure.corruptions import beside, withstood
from intaglio.measure.data.corruption import find_pixels
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.efficiency import quadratic_mean

from ..parts.trials import setting

OPERATORS = ("bnn", "xnor", "dorefa", "bireal", "xnor++", "react", "recu", "fda")


@dataclass(frozen=True)
class Case:
    task: str
    architecture: str
    model: str
    data: str
    test: str
    preprocess: str | None = None

    @classmethod
    def read(cls, text: str) -> Case:
        names, _, files = text.partition("=")
        task, architecture = names.split(",")
        return cls(task, architecture, *files.split(","))

    def source(self, path: Path) -> DataSource:
        return open_data(self.test, load(path), preprocess=self.preprocess)

    def judged(self, path: Path, source: DataSource) -> Evaluation:
        return evaluate_model(load(path), source, names=["top1"])


@dataclass(frozen=True)
class Found:
    """Of one operator on one case, in percent of the floats'; ``seconds`` of processor time, by seed as ``accuracies``."""

    accuracies: tuple[float, ...]
    corruption: float
    seconds: float
    speedup: float
    storage: float


def train(case: Case, operator: str | None, seed: int, args: argparse.Namespace, out: Path) -> float:
    """Writes the network, without an operator in floats; processor seconds."""
    one = Train(
        teacher=case.model,
        operator=operator,
        steps=args.steps,
        lr=args.lr if operator else 1e-6,
        batch=args.batch,
        threads=1,
        bf16=False,
    )
    began = time.process_time()
    try:
        run(case.model, one, data=case.data, preprocess=case.preprocess, seed=seed, out=out, measure=False, force=True)
    except NothingChanged:
        assert operator is None, "floats are the teacher already"
    return time.process_time() - began


def measured(case: Case, operator: str, args: argparse.Namespace, folder: Path) -> Found:
    floats, accuracies, seconds = Path(case.model), [], []
    reference = case.judged(floats, case.source(floats))
    for seed in range(args.seeds):
        out = folder / f"{seed}.onnx"
        seconds.append(train(case, operator, seed, args, out))
        accuracies.append(100 * case.judged(out, case.source(out)).values["top1"] / reference.values["top1"])
    packed = run(out, Binarize(scheme="pack"), out=folder / "packed.onnx", measure=False).as_dict()["bibench"]
    return Found(
        tuple(accuracies),
        0.0 if args.no_corruptions else _corrupted(case, out, floats),
        statistics.mean(seconds),
        packed["speedup"],
        packed["storage"],
    )


def _corrupted(case: Case, out: Path, floats: Path) -> float:
    """The quadratic mean over kinds of what is left of the floats' accuracy under each."""
    ours, theirs = (
        withstood(
            lambda source, path=path: case.judged(path, source),  # type: ignore[misc]
            case.source(path),
            find_pixels(case.source(path))[0],
            case.judged(path, case.source(path)),
            seed=0,
            tick=lambda done, total: None,
        )
        for path in (out, floats)
    )
    return float(beside(ours, theirs)["overall"])


def joined(values: Iterable[tuple[str, float]]) -> float:
    """The quadratic mean over groups of the quadratic mean in each."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        groups[name].append(value)
    return quadratic_mean([quadratic_mean(group) for group in groups.values()])


def row(operator: str, found: Mapping[Case, Found], floats: Mapping[Case, float]) -> tuple[str, ...]:
    by_task = joined((case.task, statistics.mean(one.accuracies)) for case, one in found.items())
    by_architecture = joined((case.architecture, statistics.mean(one.accuracies)) for case, one in found.items())
    training = quadratic_mean([100 * floats[case] / one.seconds for case, one in found.items()])
    inference = quadratic_mean([quadratic_mean((one.speedup, one.storage)) for one in found.values()])
    spread = [statistics.stdev(one.accuracies) for one in found.values() if len(one.accuracies) > 1]
    columns = (
        by_task,
        by_architecture,
        quadratic_mean([one.corruption for one in found.values()]),
        training,
        statistics.mean(spread) if spread else float("nan"),
        inference,
    )
    each = (f"{statistics.mean(one.accuracies):.1f}" for one in found.values())
    return (operator, " ".join(each), *(f"{value:.1f}" for value in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", required=True, type=Case.read)
    parser.add_argument("--operators", nargs="+", default=OPERATORS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-corruptions", action="store_true")
    args = parser.parse_args()
    names = " ".join(f"{case.task}/{case.architecture}" for case in args.case)
    title = f"% of floats; shortened schedule, {args.steps} steps of {args.batch}; {setting('torch')}"
    heads = ("operator", names, "tasks", "architectures", "corruptions", "training speed", "spread", "inference x")
    table = Table(*heads, title=title)
    with TemporaryDirectory() as folder:
        train(args.case[0], None, 0, args, Path(folder) / "floats.onnx")  # imports torch, which takes its time
        floats = {case: train(case, None, 0, args, Path(folder) / "floats.onnx") for case in args.case}
        for operator in args.operators:
            found = {case: measured(case, operator, args, Path(folder)) for case in args.case}
            one = row(operator, found, floats)
            table.add_row(*one)
            print(" | ".join(one), flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
