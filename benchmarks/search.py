"""How fast searches fill the space under their front: hypervolume over trials, by strategy, model and seed.

``python -m benchmarks.search --data $INTAGLIO_DATA --csv search.csv`` measures, ``--table`` prints the tables of a document.
What the folder of ``--work`` holds is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intaglio.pipeline.study.objectives import best
from intaglio.pipeline.study.predictors.predictor import PREDICTORS, judged
from intaglio.pipeline.study.record import Told
from intaglio.pipeline.study.search import Searching, volume
from intaglio.pipeline.study.strategies.linas import features

STRATEGIES = ("random", "linas:population=8", "nsga2:population=8")
LONGER = {"random": 4}
"""How many times as many trials some get."""
HEADS = ("model", "strategy", "seed", "trials", "volume", "seconds")
SINGLE: tuple[list[dict[str, Any]], ...] = (
    [{"pass": "quantize", "scheme": "w8"}],
    [{"pass": "quantize", "scheme": "w4"}],
    [{"pass": "quantize", "scheme": "w3"}],
    [{"pass": "quantize", "scheme": "w2"}],
    [{"pass": "quantize", "bits": 3}],
    [{"pass": "prune", "keep": 0.5}],
    [{"pass": "prune", "keep": 0.5}, {"pass": "quantize", "scheme": "w4"}],
)


@dataclass(frozen=True)
class Subject:
    """A model, what of it is open, and its data."""

    model: str
    space: Sequence[str]
    labelled: str
    preprocess: str
    data: str | None = None
    nested: bool = False


_WORDS = "kws_dscnn_from_drq_tflite.onnx", "kws01_even500.npz", "offset=-83,scale=0.5847029,shape=1x49x10"
SUBJECTS = {
    "ds-cnn": Subject(_WORDS[0], ["bits"], *_WORDS[1:]),
    "ds-cnn-widths": Subject(_WORDS[0], ["widths", "bits"], *_WORDS[1:], _WORDS[1]),
    "ds-cnn-nested": Subject(_WORDS[0], ["widths", "bits"], *_WORDS[1:], _WORDS[1], nested=True),
    "resnet20": Subject("resnet20.onnx", ["bits"], "cifar10_test_first2000.npz", "cifar10"),
}


def main() -> None:
    options = parse()
    rows = list(csv.reader(options.csv.open())) if options.csv.exists() else [list(HEADS)]
    if not options.table:
        for name in options.models:
            for row in measured(name, options):
                rows.append([str(one) for one in row])
                with options.csv.open("w", newline="") as file:
                    csv.writer(file).writerows(rows)
    tables(rows[1:])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of models and data")
    parser.add_argument("--csv", type=Path, default=Path("search.csv"))
    parser.add_argument("--work", type=Path, default=Path("search"), help="folder of studies")
    parser.add_argument("--models", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--trials", type=int, default=24, help="of the strategies that learn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500, help="labelled ones, of each trial")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    return parser.parse_args()


def searching(name: str, options: argparse.Namespace) -> Searching:
    one = SUBJECTS[name]
    return Searching(
        options.data / one.model,
        options.work / name,
        one.space,
        objectives=("accuracy", "size") if one.data is None else ("accuracy", "size", "macs"),
        data=one.data and str(options.data / one.data),
        eval_data=str(options.data / one.labelled),
        preprocess=one.preprocess,
        samples=64,
        nested=one.nested,
        scored=options.images,
        storage=f"lines:{options.work / name / 'study.jsonl'}",
    )


def measured(name: str, options: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Rows of the table, then, on stdout, the front beside single passes."""
    common, fronts = searching(name, options), []
    for seed in range(options.seeds):
        for strategy in options.strategies:
            began, trials = time.process_time(), options.trials * LONGER.get(strategy, 1)
            one = replace(common, strategy=strategy, seed=seed, trials=trials)
            told = one.tried()
            for count in range(options.trials // 4, len(told.records) + 1, options.trials // 4):
                some = replace(told, records=told.records[:count])
                yield (
                    name,
                    strategy,
                    seed,
                    count,
                    f"{volume(some, one.before):.4f}",
                    f"{time.process_time() - began:.0f}",
                )
            fronts.append((strategy, told))
            print(name, strategy, seed, f"{volume(told, one.before):.4f}", taus(told), flush=True)
    beside(common, fronts)


def taus(told: Told) -> str:
    """Kendall's tau of each predictor, by objective."""
    rows, costs = features(told.space, told.places()), told.costs()
    return " ".join(
        f"{name} {'/'.join(f'{judged(PREDICTORS[name], rows, column):.2f}' for column in costs.T)}"
        for name in PREDICTORS
    )


def beside(common: Searching, fronts: Sequence[tuple[str, Told]]) -> None:
    """The best accuracy of each strategy's trials, all seeds, that are no larger than what a fixed recipe makes."""
    from intaglio.pipeline.recipe.recipe import pass_of

    for recipe in SINGLE:
        figures = common._here.figures([pass_of(one) for one in recipe], timed=False)
        if figures.get("told"):
            continue
        point = [next(iter(figures["accuracy"].values())), figures["kept"]["size_bytes"], figures["kept"]["macs"]]
        found: dict[str, float] = {}
        for strategy, told in fronts:
            costs = told.costs()
            for row in costs[best(costs)]:
                if all(a <= b * 1.0001 for a, b in zip(row[1:], point[1:], strict=False)):
                    found[strategy] = max(found.get(strategy, 0.0), float(-row[0]))
        print(recipe, [round(one, 4) for one in point], {key: round(one, 4) for key, one in found.items()}, flush=True)


def tables(rows: Sequence[Sequence[str]]) -> None:
    """Mean and spread over seeds."""
    for name in dict.fromkeys(row[0] for row in rows):
        counts = sorted({int(row[3]) for row in rows if row[0] == name})
        print(f"\n| {name} | {' | '.join(map(str, counts))} |\n| --- |{' --: |' * len(counts)}")
        for strategy in dict.fromkeys(row[1] for row in rows if row[0] == name):
            cells = []
            for count in counts:
                found = [float(row[4]) for row in rows if row[:2] == [name, strategy] and int(row[3]) == count]
                spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
                cells.append(f"{statistics.mean(found):.3f}{spread}" if found else "")
            print(f"| `{strategy}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
