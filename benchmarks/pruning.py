"""Accuracy that is left after pruning without training, by method and by how much of the MACs stays.

    python -m benchmarks.pruning net.onnx --data train.npz --eval-data test.npz --preprocess cifar10
    ... --methods l2 l2+refit obspa:id --keep 0.5 --seeds 5     # these methods only
    ... --json found.json --markdown                            # remember every measurement; a table for a document

MODEL is any image classifier on arrays of 8-bit images (samples, height, width, 3). A method is a criterion, with
``:id``, ``:ood`` or ``:noise`` for what it is calibrated on and ``+REPAIR`` for a repair other than its own:
``obspa:noise``, ``dfpc+none``. A seed picks which samples of ``--data`` are used, which noise is made up, and what
``random`` removes; what depends on no seed runs once. Images of another kind (``ood``) are crops of the two
photographs that come with scikit-learn. Every measurement has a process of its own, so that peaks of memory are its
own. "±" is the standard deviation over seeds; "s" and "CPU s" are medians of the seconds that pruning took, its proof
included; "MB" is the largest peak of memory, the libraries included.
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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from intaglio import load
from intaglio.graph.errors import IntaglioError, TargetUnreachable
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import LABEL_NAMES, open_data
from intaglio.passes import Context
from intaglio.passes.calibration.noise import noise_source
from intaglio.passes.prune import PruneChannels
from intaglio.passes.prune.criteria.criteria import CRITERIA
from intaglio.passes.prune.repair.repair import REPAIRS

from .trials import Book, peak_mb, setting, shuffled

KEEP = (0.9, 0.75, 0.6, 0.5, 0.35)
METHODS = (
    "random",
    "l2",
    "lamp",
    "fpgm",
    "dfpc+none",
    "dfpc",
    "udfc",
    "variance",
    "obspa:noise",
    "obspa:ood",
    "obspa:id",
)
NOISE_SAMPLES = 512
SHRINK = (2.0, 4.0)  # photographs are made smaller by this before they are cut, as objects in them are large
NEEDS_NORM, UNKNOWN, UNREACHABLE = "needs BatchNormalization", "not in this version", "out of reach"


@dataclass(frozen=True)
class Trial:
    """One measurement. ``method`` is as the user names it, None for the original; ``data`` is None for no data."""

    model: str
    eval_data: str
    preprocess: str | None
    method: str | None = None
    keep: float = 1.0
    seed: int = 0
    samples: int = 0
    data: str | None = None

    @property
    def key(self) -> str:
        """What tells it from others: the file of samples is made from the rest."""
        return json.dumps({**asdict(self), "data": self.data is not None})


@dataclass(frozen=True)
class Method:
    """What a name such as ``obspa:noise`` or ``dfpc+none`` stands for."""

    name: str
    criterion: str
    dialect: str | None
    repair: str | None

    @classmethod
    def parse(cls, name: str) -> Method:
        rest, _, repair = name.partition("+")
        criterion, _, dialect = rest.partition(":")
        return cls(name, criterion, dialect or None, repair or None)

    @property
    def images(self) -> str | None:
        """The kind of images it is calibrated on."""
        if self.repair == "refit" and self.dialect is None:
            return "id"
        return self.dialect if self.dialect in ("id", "ood") else None

    @property
    def seeded(self) -> bool:
        return self.criterion == "random" or self.dialect is not None or self.images is not None


def main() -> None:
    options = parse()
    if options.trial:
        print(json.dumps(measure(Trial(**json.loads(options.trial)))))
        return
    command = shlex.join(["python", "-m", "benchmarks.pruning", *sys.argv[1:]])
    methods = [Method.parse(name) for name in options.methods]
    with tempfile.TemporaryDirectory() as scratch:
        images = Images(Path(options.data), options.samples, Path(scratch))
        book = Book("benchmarks.pruning", options.json, {"machine": setting(), "command": command})
        for trial in trials(options, methods, images):
            told = book.measure(trial)
            print(f"{trial.method or 'original'} {trial.keep:g} seed {trial.seed}: {brief(told)}", file=sys.stderr)
        images.notes.append(rival())
        show(book, trials(options, methods, images), options)
    heading = "\n".join([f"{setting()}", f"`{command}`", *images.notes])
    print(f"\n{heading}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", nargs="?", help="ONNX file")
    parser.add_argument("--data", help="calibration images, an .npz")
    parser.add_argument("--eval-data", help="labelled images to measure the accuracy on")
    parser.add_argument("--preprocess", help="as in intaglio prune")
    parser.add_argument("--keep", type=numbers, default=KEEP, metavar="A,B,...", help="fractions of the MACs")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"by default {' '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--samples", type=int, default=1024, help="calibration images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write to FILE; what it holds is not measured again")
    parser.add_argument("--markdown", action="store_true", help="print a table for a document")
    parser.add_argument("--trial", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    if not options.trial and not (options.model and options.data and options.eval_data):
        parser.error("MODEL, --data and --eval-data are needed")
    return options


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def trials(options: argparse.Namespace, methods: Sequence[Method], images: Images) -> Iterator[Trial]:
    """Everything to measure, the original first."""
    common = {"model": options.model, "eval_data": options.eval_data, "preprocess": options.preprocess}
    yield Trial(**common)
    for method in methods:
        for seed in range(options.seeds if method.seeded else 1):
            data = images.of(method.images, seed) if method.images else None
            samples = options.samples if method.images else NOISE_SAMPLES if method.dialect else 0
            if method.images and data is None:
                continue
            for keep in options.keep:
                yield Trial(**common, method=method.name, keep=keep, seed=seed, samples=samples, data=data)


class Images:
    """Files of calibration images of each kind and seed. ``notes`` says what there is not."""

    def __init__(self, path: Path, samples: int, folder: Path) -> None:
        self.path, self.samples, self.folder = path, samples, folder
        self.notes: list[str] = []

    def of(self, kind: str, seed: int) -> str | None:
        """A file with one array, named as in the user's; None where it cannot be made."""
        file = self.folder / f"{kind}-{seed}.npz"
        if not file.exists():
            with np.load(self.path, allow_pickle=False) as stored:
                name = next(n for n in stored.files if n not in LABEL_NAMES)
                whole = stored[name]
            picked = self.photographs(whole.shape, seed) if kind == "ood" else shuffled(whole, self.samples, seed)
            if picked is None:
                return None
            np.savez(file, **{name: picked})  # type: ignore[arg-type]
        return str(file)

    def photographs(self, shape: tuple[int, ...], seed: int) -> np.ndarray | None:
        """Crops of the photographs that come with scikit-learn. Shapes: (samples, height, width, 3)."""
        try:
            from PIL import Image
            from sklearn.datasets import load_sample_images
        except ImportError as error:
            return self._without(f"ood is left out: {error.name} is not installed")
        if len(shape) != 4 or shape[3] != 3:
            return self._without(f"ood is left out: --data holds {shape}, not (samples, height, width, 3)")
        rng = np.random.default_rng(seed)
        pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
        crops = []
        for k in range(self.samples):
            picture, shrink = pictures[k % len(pictures)], rng.uniform(*SHRINK)
            small = np.asarray(picture.resize((round(picture.width / shrink), round(picture.height / shrink))))
            top, left = (int(rng.integers(small.shape[a] - shape[a + 1] + 1)) for a in (0, 1))
            crops.append(small[top : top + shape[1], left : left + shape[2]])
        return np.stack(crops)

    def _without(self, reason: str) -> np.ndarray | None:
        if reason not in self.notes:
            self.notes.append(reason)
        return None


def measure(trial: Trial) -> dict[str, Any]:
    """Prune and evaluate. Units: accuracy in percent, seconds, MB."""
    model = load(trial.model)
    result: dict[str, Any] = {}
    if trial.method is not None:
        method = Method.parse(trial.method)
        if method.criterion not in CRITERIA or (method.repair or "none") not in REPAIRS:
            return {"failed": UNKNOWN}
        repair = method.repair or CRITERIA[method.criterion].repair  # named, so that it fails where it is impossible
        options = {"criterion": method.criterion, "dialect": method.dialect, "repair": repair}
        began, used = time.perf_counter(), time.process_time()
        try:
            source = None
            if trial.data:
                source = open_data(trial.data, model, preprocess=trial.preprocess)
            elif method.dialect == "noise":
                source = noise_source(model, samples=trial.samples, preprocess=trial.preprocess, seed=trial.seed)
            context = Context(data=source, seed=trial.seed)
            pruned = PruneChannels(target="macs", keep=trial.keep, **options).run(model, context)  # type: ignore[arg-type]
        except IntaglioError as error:
            return {"failed": reason(error, model, method), "why": str(error)}
        result["seconds"], result["cpu_s"] = time.perf_counter() - began, time.process_time() - used
        result["peak_mb"], result["kept"] = peak_mb(), pruned.after.macs / pruned.before.macs
        model = pruned.model
    labelled = open_data(trial.eval_data, model, preprocess=trial.preprocess)
    evaluation = evaluate_model(model, labelled, names=["top1"])
    return {**result, "accuracy": 100 * evaluation.values["top1"], "images": evaluation.samples}


def reason(error: IntaglioError, model: Any, method: Method) -> str:
    if isinstance(error, TargetUnreachable):
        return UNREACHABLE
    normalized = any(node.op_type == "BatchNormalization" for node in model.graph.node)
    return "fails" if normalized or method.images else NEEDS_NORM


def brief(result: dict[str, Any]) -> str:
    if "failed" in result:
        return ": ".join([result["failed"], *result.get("why", "").split("\n")[:1]])
    took = f" in {result['seconds']:.1f} s" if "seconds" in result else ""
    return f"{result['accuracy']:.2f} %{took}"


def show(book: Book, asked: Iterator[Trial], options: argparse.Namespace) -> None:
    """The table, drawn or as Markdown."""
    found = [(trial, book.found[trial.key]) for trial in asked]
    original = found[0][1]
    title = f"{Path(options.model).name}: {original['accuracy']:.2f} % of {original['images']} images"
    heads = ["method", *(f"{keep:g}" for keep in options.keep), "s", "CPU s", "MB"]
    names = dict.fromkeys(trial.method for trial, _ in found if trial.method is not None)
    rows = [row(name, [(t, r) for t, r in found if t.method == name], options.keep) for name in names]
    if options.markdown:
        lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
        print("\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)]))
        return
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head == "method" else "right")
    for line in rows:
        table.add_row(*line)
    Console().print(table)


def row(name: str, found: Sequence[tuple[Trial, dict[str, Any]]], keep: Sequence[float]) -> list[str]:
    cells = [cell([result for trial, result in found if trial.keep == k]) for k in keep]
    done = [result for _, result in found if "failed" not in result]
    if not done:
        return [name, *cells, "", "", ""]
    times = [f"{statistics.median(r[key] for r in done):.1f}" for key in ("seconds", "cpu_s")]
    return [name, *cells, *times, f"{max(r['peak_mb'] for r in done):.0f}"]


def cell(results: Sequence[dict[str, Any]]) -> str:
    """Mean and spread over seeds, or why there is none."""
    failed = [result["failed"] for result in results if "failed" in result]
    if failed or not results:
        return failed[0] if failed else ""
    values = [result["accuracy"] for result in results]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{math.fsum(values) / len(values):.2f}{spread}"


def rival() -> str:
    """Why there is no row for Torch-Pruning."""
    try:
        found = f"torch-pruning {version('torch-pruning')} is left out"
    except PackageNotFoundError:
        found = "torch-pruning is not installed, and would be left out"
    return f"{found}: it prunes torch modules, and the network is given as an ONNX graph"


if __name__ == "__main__":
    main()
