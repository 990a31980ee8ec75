"""What splitting layers saves and costs: MACs, measured time and accuracy, layer by layer or for a whole network.

    python -m benchmarks.lowrank layers net.onnx --data train.npz --eval-data test.npz --preprocess cifar10
    ... layers net.onnx --layers conv3 --ranks 8,16,24 --schemes spatial channel     # these only
    python -m benchmarks.lowrank budget net.onnx --data train.npz --eval-data test.npz --keep 0.7,0.5
    ... --markdown                                                                  # a table for a document

``layers`` splits one layer at a time, at ranks that pay and at ranks that do not, and leaves the others as they are.
"MACs" and "params" are what the layer keeps; "time" is what its nodes take, timed alone on this machine with one
thread, as a fraction of what the layer took; a rank that costs more than it saves shows as a fraction above one.
``budget`` splits a whole network under a target, by several settings: "time" is that of a run of the whole network in
turn with the original, "s" is processor time of the pass, its proof included. Without ``--layers``, one layer of each
shape is taken.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from intaglio import load
from intaglio.graph.errors import IntaglioError
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.latency import machine, time_pair
from intaglio.passes import Context
from intaglio.passes.factorize import SCHEMES, Factorize
from intaglio.passes.factorize.candidates import option
from intaglio.passes.factorize.gains import Gains
from intaglio.passes.factorize.ready import ready
from intaglio.passes.factorize.sites import Unit, find

RANKS = (0.25, 0.5, 1.0)
"""Fractions of a layer's wider side, at which a scheme is tried where no ranks are named."""
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("default", {}),
    ("--no-measure", {"measure": False}),
    ("--align 1 --min-gain 1 --no-measure", {"align": 1, "min_gain": 1.0, "measure": False}),
    ("--align 16", {"align": 16}),
)


def main() -> None:
    options = parse()
    model = load(options.model)
    test = open_data(options.eval_data, model, preprocess=options.preprocess)
    heads, rows = (layers if options.what == "layers" else budget)(model, test, options)
    before = 100 * accuracy(model, test)
    show(f"{options.model}: {before:.2f} % of {test.samples} images", heads, list(rows), options.markdown)
    print(f"\n{machine()}\n`{shlex.join(['python', '-m', 'benchmarks.lowrank', *sys.argv[1:]])}`")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("layers", "budget"))
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument("--data", help="calibration data, an .npz; without it weights are truncated")
    parser.add_argument("--eval-data", required=True, help="labelled data to measure the accuracy on")
    parser.add_argument("--preprocess", help="as in intaglio factorize")
    parser.add_argument("--samples", type=int, default=1024, help="calibration samples")
    parser.add_argument("--layers", nargs="+", help="names of nodes")
    parser.add_argument("--schemes", nargs="+", help=f"by default {' '.join(SCHEMES)}")
    parser.add_argument("--ranks", type=lambda text: [int(word) for word in text.split(",")], metavar="A,B,...")
    parser.add_argument("--keep", type=lambda text: [float(word) for word in text.split(",")], default=[0.7, 0.5])
    parser.add_argument("--settings", nargs="+", help="which of: " + "; ".join(name for name, _ in SETTINGS))
    parser.add_argument("--markdown", action="store_true", help="print a table for a document")
    return parser.parse_args()


def context(model: Model, options: argparse.Namespace) -> Context:
    if options.data is None:
        return Context()
    return Context(data=open_data(options.data, model, preprocess=options.preprocess, samples=options.samples))


def accuracy(model: Model, test: DataSource) -> float:
    return evaluate_model(model, test, names=["top1"]).values["top1"]


def layers(model: Model, test: DataSource, options: argparse.Namespace) -> tuple[list[str], Iterator[list[str]]]:
    equal, _, _ = ready(model, biases=False)
    units = [u for u in find(equal)[0] if u.site.op != "Gather"]
    named = [u for u in units if u.name in (options.layers or one_of_each(units))]
    return ["layer", "shape", "scheme", "rank", "MACs", "params", "time", "top1"], alone(
        model, equal, named, test, options
    )


def one_of_each(units: Sequence[Unit]) -> list[str]:
    """Names of the last unit of every shape: later layers depend less on what the others became."""
    return list({(u.site.op, u.site.kernel, u.site.outputs, u.site.channels): u.name for u in units}.values())


def alone(
    model: Model, equal: Model, units: Sequence[Unit], test: DataSource, options: argparse.Namespace
) -> Iterator[list[str]]:
    gains = Gains(equal, lambda symbol: 1)
    for unit in units:
        for name in options.schemes or SCHEMES:
            if SCHEMES[name].obstacle(unit.site):
                continue
            for rank in ranks(unit, name, options.ranks):
                one = option(unit, name, rank, "macs")
                (speedup,) = gains.gains([(unit, one)])
                chosen = Factorize(
                    target="rank", ranks=((unit.name, rank),), schemes=(name,), measure=False, refit=False
                )
                done = chosen.run(model, context(model, options))
                yield [
                    unit.name,
                    "x".join(map(str, (unit.site.channels, unit.site.outputs, *unit.site.kernel))),
                    name,
                    str(rank),
                    f"{one.macs / max(1, unit.macs):.2f}",
                    f"{one.params / unit.params:.2f}",
                    f"{1 / speedup:.2f}" if speedup else "-",
                    f"{100 * accuracy(done.model, test):.2f}",
                ]


def ranks(unit: Unit, scheme: str, named: Sequence[int] | None) -> list[int]:
    largest = SCHEMES[scheme].largest(unit.site)
    width = max(unit.site.channels, unit.site.outputs)
    wanted = named or [round(width * part) for part in RANKS]
    return sorted({min(max(1, rank), largest) for rank in wanted})


def budget(model: Model, test: DataSource, options: argparse.Namespace) -> tuple[list[str], Iterator[list[str]]]:
    return ["settings", "asked", "MACs", "params", "time", "top1", "layers", "s"], whole(model, test, options)


def whole(model: Model, test: DataSource, options: argparse.Namespace) -> Iterator[list[str]]:
    for name, setting in SETTINGS:
        if options.settings and name not in options.settings:
            continue
        for keep in options.keep:
            began = time.process_time()
            try:
                done = Factorize(keep=keep, **setting).run(model, context(model, options))
            except IntaglioError as error:
                yield [name, f"{keep:g}", error.what, *[""] * 5]
                continue
            took = time.process_time() - began
            timing = time_pair(model, done.model)
            split = sum(layer["scheme"] is not None for layer in done.layers)
            yield [
                name,
                f"{keep:g}",
                f"{done.after.macs / done.before.macs:.3f}",
                f"{done.after.params / done.before.params:.3f}",
                f"{1 / timing.speedup(1):.2f}",
                f"{100 * accuracy(done.model, test):.2f}",
                f"{split} of {len(done.layers)}",
                f"{took:.0f}",
            ]


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> None:
    if markdown:
        lines = [heads, ["---"] * len(heads), *rows]
        print("\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)]))
        return
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head)
    for line in rows:
        table.add_row(*line)
    Console().print(table)


if __name__ == "__main__":
    main()
