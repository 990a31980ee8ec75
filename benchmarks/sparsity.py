"""Accuracy and bytes of sparse networks: ways to choose weights, densities and patterns side by side.

    python -m benchmarks.sparsity net.onnx --data train.npz --eval-data test.npz --preprocess cifar10 --samples 256
    ... --methods magnitude obs --targets 0.5 0.2 2:4        # these alone
    ... --layers uniform erk measured --markdown             # also other ways to spread the density; a table for a document

A target is a density, an n:m pattern, ``own`` for methods that find their density (``nettrim:tolerance=0.05``), ``0.2+16`` for a
density with 16 shared values, or ``0.2+w8`` for zeros in 8-bit integers, packed afterwards. ``magnitude/`` with a slash behind it
is not fitted. "file" is the part of the original's bytes, "xz" what ``lzma`` of Python makes of the file on top of that.
"""

from __future__ import annotations

import argparse
import lzma
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from intaglio import Quantize, Sparsify, run
from intaglio.graph.errors import IntaglioError
from intaglio.passes import Pass

METHODS = ("random/", "magnitude/", "magnitude", "lamp", "wanda", "obs")
TARGETS = ("0.5", "0.2", "0.1", "2:4", "0.2+16", "0.1+16", "0.2+w8")
HEADS = ("method", "layers", "target", "accuracy", "density", "file", "xz", "s")


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("model", type=Path)
    for name in ("--data", "--eval-data"):
        told.add_argument(name, required=True)
    told.add_argument("--preprocess")
    told.add_argument("--samples", type=int, default=256)
    told.add_argument("--methods", nargs="+", default=METHODS)
    told.add_argument("--targets", nargs="+", default=TARGETS)
    told.add_argument("--layers", nargs="+", default=("uniform",))
    told.add_argument("--markdown", action="store_true")
    given = told.parse_args()
    show(rows(given), markdown=given.markdown)


def rows(given: argparse.Namespace) -> Iterator[Sequence[str]]:
    for target in given.targets:
        for layers in given.layers if target[:2] == "0." else given.layers[:1]:
            for method in given.methods:
                yield measured(given, passes(method, layers, target), (method, layers, target))


def passes(method: str, layers: str, target: str) -> list[Pass]:
    amount, _, more = target.partition("+")
    options: dict[str, Any] = {"density": float(amount), "layers": layers} if amount[:2] == "0." else {}
    if ":" in amount:
        options["pattern"] = amount
    if more.isdigit():
        options["codebook"] = int(more)
    integers: list[Pass] = [Quantize(scheme=more), Sparsify()] if more.startswith("w") else []
    options["form"] = "dense" if integers else "packed"
    return [Sparsify(method=method.rstrip("/"), refit=not method.endswith("/"), **options), *integers]


def measured(given: argparse.Namespace, steps: Sequence[Pass], names: Sequence[str]) -> Sequence[str]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sparse.onnx"
        try:
            report = run(
                given.model,
                steps,
                data=given.data,
                eval_data=given.eval_data,
                preprocess=given.preprocess,
                samples=given.samples,
                out=out,
                measure=False,
                force=True,
            ).as_dict()
        except IntaglioError as error:
            return (*names, str(error.what), "", "", "", "")
        before, squeezed = given.model.stat().st_size, len(lzma.compress(out.read_bytes()))
        size = out.stat().st_size
    accuracy = next(iter(report["accuracy"]["after"].values()))
    density = report.get("density")
    told = "" if density is None else f"{density:.2%}"
    return (
        *names,
        f"{accuracy:.2%}",
        told,
        f"{size / before:.1%}",
        f"{squeezed / before:.1%}",
        f"{report['seconds']:.0f}",
    )


def show(found: Iterable[Sequence[str]], *, markdown: bool) -> None:
    if markdown:
        for line in chain((HEADS, ["---"] * len(HEADS)), found):
            print("|", " | ".join(line), "|", flush=True)
        return
    table = Table(*HEADS)
    for row in found:
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
