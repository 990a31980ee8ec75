"""Accuracy, size, speed and cost of quantization: our schemes beside ONNX Runtime's own tools and NNCF.

    python -m benchmarks.quantization net.onnx --data train.npz --eval-data test.npz --preprocess cifar10
    ... --schemes int8 w4 w4:nearest ort:minmax nncf --seeds 5     # these rows only
    ... --json found.json --markdown                               # remember every measurement; a table for a document
    ... --operators                                                # also what ONNX Runtime makes of each network

MODEL is any classifier with one input; ``--data`` and ``--eval-data`` are .npz files as for ``intaglio quantize``. A
row is a scheme, with what it is given after a colon: the ranges of activations (``int8:mse``), how weights are rounded
(``w4:nearest``, which looks at no data), the bits on average and the allocator (``mixed:3:dp``), ``int8:none`` for no
data; a binarization (``bits:planes``, ``bits:xnor:none``, see ``benchmarks.binarization``); or another tool:
``ort:minmax``, ``ort:dynamic``, ``nncf``. Static integers are calibrated on ``--samples``
samples, weights on ``--weight-samples``; a seed picks which.

Every measurement has a process of its own, so that peaks of memory are its own. "same" is the share of samples for
which the largest output is that of the float network, "dB" the signal to noise of the outputs. "time" is the
processor time of one sample on one thread as a fraction of the float network's, "to QDQ" as a fraction of that of ONNX
Runtime's own QDQ model, all three run in turn in one process. "±" is the standard deviation over seeds; "s", "CPU s"
and times are medians, the model's loading and saving included, evaluation and the loading of libraries not; "MB" is the
largest peak, the libraries included.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from intaglio import Model, load
from intaglio.graph.cost import cost, weight_bytes
from intaglio.graph.errors import IntaglioError
from intaglio.graph.io.save import save
from intaglio.measure.accuracy import class_scores
from intaglio.measure.data.source import LABEL_NAMES, DataSource, open_data
from intaglio.measure.run.rounds import time_rounds
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.binarize import Binarize
from intaglio.passes.precision.decibels import sqnr_db
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.placement.kernels_used import kernels_used
from intaglio.passes.quantize.scheme import study

from .parts.rivals import RIVALS, NotInstalled, for_timing, load_modules, rival
from .parts.trials import Book, peak_mb, setting, shuffled

SCHEMES = (
    *("int8:minmax", "int8:percentile", "int8:mse", "int8:entropy", "int8", "int8:none", "dynamic"),
    *("w8", "w4", "w4:nearest", "w3", "w3:nearest", "w2", "w2:nearest", "mixed:3:dp", "mixed:3:ompq", "w4a8"),
    *("fp16", "bf16", *RIVALS),
)
BLIND = ("dynamic", "ort:dynamic", "int8:none")
"""They look at no data."""
BITS = "bits"
"""What names of binarizations begin with."""
TIMED_ON, TIMING_S, ROUNDS = 16, 0.3, (20, 2000)
WIDTH = 140


@dataclass(frozen=True)
class Trial:
    """One measurement. ``scheme`` is as the user names it, None for the float network; ``data`` is None for no data.

    ``exact`` is a file of the float network's outputs, made by the first trial that needs it.
    """

    model: str
    eval_data: str
    preprocess: str | None
    exact: str
    scheme: str | None = None
    seed: int = 0
    samples: int = 0
    data: str | None = None

    @property
    def key(self) -> str:
        """What tells it from others: the files of samples and of outputs are made from the rest."""
        return json.dumps({**asdict(self), "data": self.data is not None, "exact": ""})


@dataclass(frozen=True)
class Wanted:
    """What a name such as ``int8:mse`` or ``mixed:3:dp`` stands for: options of the pass, and the data that they need."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None

    @classmethod
    def parse(cls, name: str) -> Wanted:
        scheme, *rest = name.split(":")
        if scheme == BITS:
            return cls(name, bits_options(rest), None if "none" in rest else "weight_samples")
        if name in RIVALS:
            return cls(name, needs=None if name in BLIND else "samples")
        options: dict[str, Any] = {"scheme": scheme}
        if scheme == "mixed":
            options.update(bits=float(rest[0]), allocator=rest[1])
            return cls(name, options, "weight_samples")
        static = scheme == "int8" or study(scheme) is not None
        if static:
            if rest and rest != ["none"]:
                options["ranges"] = rest[0]
            return cls(name, options, None if name in BLIND else "samples")
        if rest:
            options["method"] = rest[0]
        blind = name in BLIND or rest in (["nearest"], ["mse"])
        return cls(name, options, None if blind else "samples" if scheme in ("fp16", "bf16") else "weight_samples")


Column = Callable[[Sequence[dict[str, Any]], Mapping[str, Any]], str]
"""A cell, made of the results over seeds and those of the float network."""


def bits_options(words: Sequence[str]) -> dict[str, Any]:
    """``["planes", "none", "block=32"]`` as options of the pass; ``none`` only says that there are no data."""
    named = dict(word.split("=") for word in words[1:] if "=" in word)
    return {"scheme": words[0], **{name: float(value) if "." in value else int(value) for name, value in named.items()}}


def main(
    schemes: Sequence[str] = SCHEMES, columns: Mapping[str, Column] | None = None, about: str = __doc__ or ""
) -> None:
    """Measure these schemes unless others are asked for; ``about`` is what --help says."""
    options = parse(schemes, about)
    if options.trial:
        print(json.dumps(measure(Trial(**json.loads(options.trial)))))
        return
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    machine = setting(*(["nncf"] if find_spec("nncf") else []))
    with tempfile.TemporaryDirectory() as scratch:
        book = Book("benchmarks.quantization", options.json, {"machine": machine, "command": command})
        asked = list(trials(options, Path(scratch)))
        for trial in asked:
            told = book.measure(trial)
            print(f"{trial.scheme or 'float'} seed {trial.seed}: {brief(told)}", file=sys.stderr)
        show([(trial, book.found[trial.key]) for trial in asked], options, columns or COLUMNS)
    print(f"\n{machine}\n`{command}`")


def parse(schemes: Sequence[str], about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", nargs="?", help="ONNX file")
    parser.add_argument("--data", help="calibration samples, an .npz")
    parser.add_argument("--eval-data", help="labelled samples to measure the accuracy on")
    parser.add_argument("--preprocess", help="as in intaglio quantize")
    parser.add_argument("--schemes", nargs="+", default=schemes, help=f"by default {' '.join(schemes)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--samples", type=int, default=512, help="calibration samples of static integers")
    parser.add_argument("--weight-samples", type=int, default=1024, help="those that weights are fitted on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write to FILE; what it holds is not measured again")
    parser.add_argument("--markdown", action="store_true", help="print a table for a document")
    parser.add_argument("--operators", action="store_true", help="tell what ONNX Runtime makes of each network")
    parser.add_argument("--trial", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    if not options.trial and not (options.model and options.data and options.eval_data):
        parser.error("MODEL, --data and --eval-data are needed")
    return options


def trials(options: argparse.Namespace, folder: Path) -> Iterator[Trial]:
    """Everything to measure, the float network first."""
    base = Trial(options.model, options.eval_data, options.preprocess, str(folder / "exact.npy"))
    yield base
    for wanted in map(Wanted.parse, options.schemes):
        if wanted.needs is None:
            # Ranges of the input are those of its type; they are told by what the file of samples holds.
            data = subset(Path(options.data), 1, 0, folder) if wanted.name == "int8:none" else None
            yield replace(base, scheme=wanted.name, data=data)
            continue
        samples = getattr(options, wanted.needs)
        for seed in range(options.seeds):
            data = subset(Path(options.data), samples, seed, folder)
            yield replace(base, scheme=wanted.name, seed=seed, samples=samples, data=data)


def subset(path: Path, samples: int, seed: int, folder: Path) -> str:
    """A file with some of the samples, without labels."""
    file = folder / f"{samples}-{seed}.npz"
    if not file.exists():
        with np.load(path, allow_pickle=False) as stored:
            arrays = {n: shuffled(stored[n], samples, seed) for n in stored.files if n not in LABEL_NAMES}
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return str(file)


def measure(trial: Trial) -> dict[str, Any]:
    """Quantize, time and evaluate. Units: accuracy in percent, seconds, MB."""
    original = load(trial.model)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(trial.model)
        if trial.scheme is not None:
            out = Path(scratch) / "out.onnx"
            try:
                load_modules(trial.scheme)
                began, used = time.perf_counter(), time.process_time()
                make(trial, original, out, Path(scratch))
            except (IntaglioError, NotInstalled) as error:
                return {
                    "failed": str(error) if isinstance(error, NotInstalled) else "does not apply",
                    "why": str(error),
                }
            result["seconds"], result["cpu_s"] = time.perf_counter() - began, time.process_time() - used
            result["peak_mb"] = peak_mb()
        result["bytes"] = out.stat().st_size
        model = load(out)
        result["bits"] = 8 * weight_bytes(model) / cost(original).params
        result["operators"] = operators(model)
        labelled = open_data(trial.eval_data, original, preprocess=trial.preprocess)
        result |= timed(trial, original, model, replace(labelled, limit=TIMED_ON), Path(scratch))
    return {**result, **evaluated(trial, original, model, labelled)}


def make(trial: Trial, original: Model, out: Path, folder: Path) -> None:
    """Write the quantized model."""
    wanted = Wanted.parse(trial.scheme or "")
    source = None
    if wanted.needs:
        source = open_data(str(trial.data), original, preprocess=trial.preprocess)
    if wanted.name in RIVALS:
        rival(wanted.name, Path(trial.model), out, source, folder)
        return
    options = dict(wanted.options)
    context = Context(data=source, seed=trial.seed)
    if wanted.name.startswith(f"{BITS}:"):
        save(Binarize(**options).run(load(trial.model), context).model, out)
        return
    if wanted.name == "int8:none":
        options["input_ranges"] = [limits(trial, original, folder)]
    save(Quantize(**options).run(load(trial.model), context).model, out)


def limits(trial: Trial, model: Model, folder: Path) -> tuple[str, float, float]:
    """What the input's smallest and largest possible values become, for stored integers such as pixels."""
    with np.load(str(trial.data), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    ends = {}
    for name, values in arrays.items():
        if values.dtype.kind not in "iu":
            raise IntaglioError(f"{name} is stored in {values.dtype}: nothing says what range it has")
        kind = np.iinfo(values.dtype)
        ends[name] = np.concatenate([np.full_like(values[:1], kind.min), np.full_like(values[:1], kind.max)])
    np.savez(folder / "ends.npz", **ends)  # type: ignore[arg-type]
    batch = next(iter(open_data(str(folder / "ends.npz"), model, preprocess=trial.preprocess).batches(2)))
    ((port, value),) = batch.inputs.items()
    return port, float(value.min()), float(value.max())


def timed(trial: Trial, original: Model, model: Model, few: DataSource, folder: Path) -> dict[str, float]:
    """Times of one sample, relative to the float network's and to ONNX Runtime's QDQ model's, all run in turn."""
    feed = next(iter(few.batches(1))).inputs
    models = [original, model, load(for_timing(Path(trial.model), folder, few))]
    sessions = [open_session(one, threads=1, spin=False) for one in models]
    times = time_rounds(sessions, [feed] * len(sessions), 1, budget_s=TIMING_S, rounds=ROUNDS)
    exact, ours, theirs = times.T
    return {
        "float_ms": float(np.median(exact)) * 1e3,
        "time": float(np.median(ours / exact)),
        "to_qdq": float(np.median(ours / theirs)),
    }


def evaluated(trial: Trial, original: Model, model: Model, labelled: DataSource) -> dict[str, Any]:
    """Accuracy, and agreement with the float network."""
    file = Path(trial.exact)
    near, labels = scores(model, labelled)
    if not file.exists():
        np.save(file, scores(original, labelled)[0])
    exact = np.load(file)
    same = np.argmax(near, axis=1) == np.argmax(exact, axis=1)
    return {
        "top1": 100 * float(np.mean(np.argmax(near, axis=1) == labels)),
        "same": 100 * float(np.mean(same)),
        "sqnr_db": sqnr_db(exact, near),
        "samples": len(labels),
    }


def scores(model: Model, labelled: DataSource) -> tuple[np.ndarray, np.ndarray]:
    session = open_session(model, threads=1, spin=False)
    parts, labels = [], []
    for batch in labelled.batches(64):
        assert batch.labels is not None
        parts.append(class_scores(run(session, batch.inputs))[: batch.count])
        labels.append(batch.labels[: batch.count].reshape(-1))
    return np.concatenate(parts), np.concatenate(labels)


def operators(model: Model) -> dict[str, int]:
    """Operators of ONNX Runtime's graph that are in no standard model: integer kernels and fused nodes."""
    import onnx

    used = kernels_used(model)
    fused = {op: n for op, n in used.other.items() if not onnx.defs.has(op)}
    return {**used.integer, **fused, **used.conversions}


def brief(result: dict[str, Any]) -> str:
    if "failed" in result:
        return ": ".join([result["failed"], *result.get("why", "").split("\n")[:1]])
    took = f", {result['cpu_s']:.1f} CPU s" if "cpu_s" in result else ""
    return (
        f"{result['top1']:.2f} %, same {result['same']:.2f} %, {result['sqnr_db']:.1f} dB, "
        f"time {result['time']:.3f}, to QDQ {result['to_qdq']:.3f}{took}"
    )


def show(
    found: Sequence[tuple[Trial, dict[str, Any]]], options: argparse.Namespace, columns: Mapping[str, Column]
) -> None:
    """The table, drawn or as Markdown."""
    exact = found[0][1]
    title = (
        f"{Path(options.model).name}: {exact['top1']:.2f} % of {exact['samples']} samples, {exact['bytes']:,} bytes, "
        f"{exact['float_ms']:.3g} ms"
    )
    names = dict.fromkeys(trial.scheme for trial, _ in found if trial.scheme is not None)
    rows = [row(name, [r for t, r in found if t.scheme == name], exact, columns) for name in names]
    heads = ("scheme", *columns)
    if options.markdown:
        lines = [heads, ["---", *["--:"] * len(columns)], *rows]
        print("\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)]))
    else:
        table = Table(title=title, title_justify="left")
        for head in heads:
            table.add_column(head, justify="left" if head == "scheme" else "right")
        for line in rows:
            table.add_row(*line)
        Console(width=WIDTH).print(table)
    if options.operators:
        print()
        for name in (None, *names):
            counts: dict[str, int] = next(
                (r["operators"] for t, r in found if t.scheme == name and "operators" in r), {}
            )
            print(f"- `{name or 'float'}`: {', '.join(f'{n} {op}' for op, n in counts.items()) or 'none'}")


def row(
    name: str, results: Sequence[dict[str, Any]], exact: Mapping[str, Any], columns: Mapping[str, Column]
) -> list[str]:
    failed = [result["failed"] for result in results if "failed" in result]
    if failed:
        return [f"`{name}`", failed[0], *[""] * (len(columns) - 1)]
    return [f"`{name}`", *(column(results, exact) for column in columns.values())]


def values(results: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [float(result[key]) for result in results]


def middle(key: str, form: str) -> Column:
    """The median over seeds."""
    return lambda results, exact: format(statistics.median(values(results, key)), form)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation over seeds."""
    return f"{mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


COLUMNS: dict[str, Column] = {
    "top-1": lambda results, exact: spread(values(results, "top1")),
    "diff.": lambda results, exact: f"{mean(values(results, 'top1')) - exact['top1']:+.2f}",
    "same": lambda results, exact: spread(values(results, "same")),
    "dB": lambda results, exact: f"{mean(values(results, 'sqnr_db')):.1f}",
    "bytes": middle("bytes", ",.0f"),
    "kept": lambda results, exact: f"{statistics.median(values(results, 'bytes')) / exact['bytes']:.3f}",
    "time": middle("time", ".2f"),
    "to QDQ": middle("to_qdq", ".2f"),
    "s": middle("seconds", ".1f"),
    "CPU s": middle("cpu_s", ".1f"),
    "MB": lambda results, exact: f"{max(values(results, 'peak_mb')):.0f}",
}

if __name__ == "__main__":
    main()
