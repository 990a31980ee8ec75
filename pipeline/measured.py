"""What a change cost, on both models side by side: accuracy and time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph.index import index_of
from ..graph.io.save import file_bytes
from ..graph.model import Model
from ..graph.nodes import reads
from ..measure.accuracy import Evaluation, evaluate_model
from ..measure.data.source import Batch, DataSource
from ..measure.paired import PairedScoring, drops
from ..measure.robust import Forgotten
from ..measure.run.inputs import runnable_inputs, sizes_of
from ..measure.run.latency import NOISE, Timing, time_models
from ..measure.run.pairing import Pair, output_differences, pair_models
from ..measure.run.session import open_session
from ..measure.run.tensor_specs import free_sizes, input_specs
from ..passes.by_parts import is_large
from .gates import Gate, limit_accuracy, metrics_of
from .given import Given

if TYPE_CHECKING:
    from ..passes.budget.latency_target import LatencyReport

Tick = Callable[[int, int | None], None]
_BATCH = 64
RANDOM_NOTE = "no --data: the outputs are compared on random inputs, which say little about real ones"


def opening(model: Model, memory: int) -> list[str]:
    """What ONNX Runtime takes to open a large model."""
    if not is_large(model, memory):
        return []
    return [f"ONNX Runtime takes about {opening_bytes(model) / 1e9:.1f} GB to open the result"]


def crowding(models: Sequence[Model]) -> list[str]:
    """Why models are not timed: the machine has not the memory to open them side by side."""
    needed, free = sum(map(opening_bytes, models)), _free_bytes()
    if needed <= free:
        return []
    told = f"opening both models takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free here"
    return [f"nothing was timed: {told}"]


def opening_bytes(model: Model) -> int:
    """About: the file, and what nodes read in a run that is decoded once."""
    index = index_of(model)
    read = {name for node in index.nodes if not index.constant.issuperset(node.output) for name in reads(node)}
    made = [name for name in read & index.constant if name in index.place]
    decoded = sum(4 * prod(index.shapes.dims.get(name, ())) for name in made)
    return file_bytes(model) + decoded


def _free_bytes() -> float:
    """Of memory; as much as there is where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def evaluations(
    models: Iterable[Model], source: DataSource, tick: Tick, metrics: Sequence[str] = (), *, usual: bool = True
) -> list[Evaluation]:
    """``metrics`` of each model, with ``usual`` beside the usual ones."""
    return [evaluate_model(one, source, names=metrics, usual=usual, tick=tick) for one in models]


def accuracy(before: Evaluation, after: Evaluation) -> dict[str, dict[str, Any]]:
    """Every metric of both models, and by metric what was lost and how sure that is."""
    lost = {name: drop.as_dict() for name, drop in drops(before, after).items()}
    return {"before": before.values, "after": after.values, "drop": lost}


def differences(before: Model, after: Model, source: DataSource, tick: Tick) -> dict[str, dict[str, Any]]:
    """How far the outputs lie apart on the data, by the names that they have in the first model."""
    sessions = [open_session(one) for one in (before, after)]
    pair, total = pair_models(before, after), source.samples
    found, _ = output_differences(sessions, pair, source.batches(_BATCH), tick=lambda done: tick(done, total))
    return {name: difference.as_dict() for name, difference in found.items()}


def compared(
    sessions: Sequence[Any],
    pair: Pair,
    source: DataSource | None,
    batches: Iterable[Batch],
    gates: Sequence[Gate],
    tick: Tick,
    metrics: Sequence[str] = (),
    *,
    robust: bool = False,
) -> dict[str, Any]:
    """How far the outputs of two models lie apart, and accuracy where the data have labels; ``batches`` are of the source,
    or made up. ``robust`` also tells what the second forgets."""
    names, total = list(dict.fromkeys([*metrics, *metrics_of(gates)])), source.samples if source else 1
    scoring = PairedScoring(names, usual=not metrics, must=bool(metrics) or limit_accuracy(gates))
    forgotten = Forgotten()

    def both(piece: Batch, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
        scoring.add(piece, a, b)
        if robust:
            forgotten.add(piece, a, b)

    found, seen = output_differences(sessions, pair, batches, tick=lambda done: tick(done, total), seen=both)
    apart = {name: difference.as_dict() for name, difference in found.items()}
    if source is None:
        for output in apart.values():
            output["top1_agreement"] = None  # on noise it says nothing, however high
    rated = scoring.evaluations(source) if source and source.labelled else []
    notes = [*pair.notes, *filter(None, [scoring.why]), *(source.notes if source else [RANDOM_NOTE])]
    told = {"outputs": apart, "samples": seen, "notes": notes, **({"accuracy": accuracy(*rated)} if rated else {})}
    return {**told, **({"robust": forgotten.as_dict()} if robust else {})}


def told_latency(timing: Timing) -> dict[str, Any]:
    """Medians of two models as ``before`` and ``after``, as in every report; further figures likewise."""
    a, b = timing.latencies
    return {
        "before": a.median_ms,
        "after": b.median_ms,
        "speedup": timing.speedup(1),
        "verdict": timing.verdict(1),
        "threads": timing.threads,
        "machine": timing.machine,
        "p90": {"before": a.p90_ms, "after": b.p90_ms},
        "least": {"before": a.min_ms, "after": b.min_ms},
        "runs": a.runs,
    }


def with_sizes(model: Model, source: DataSource | None) -> Model:
    """The model with the lengths of the first sample in the place of free ones; itself without data or such lengths."""
    free = free_sizes(input_specs(model))
    first = next(source.batches(1), None) if free and source is not None else None
    if first is None:
        return model
    sized, of = model.copy(), sizes_of(first.inputs, model)
    sized.sizes = {name: of(name) for name in free}
    return sized


def told_sizes(model: Model, times: Mapping[str, Any] | None) -> str:
    """What sizes the costs of a model with free ones hold for; empty for one without."""
    free = free_sizes(input_specs(model))
    if model.sizes:
        found = ", ".join(f"{name} {model.sizes.get(name, 1)}" for name in free)
        return f"MACs{' and times' if times else ''} are those of the first sample of the data: {found}"
    shapes = [f"{name} {'x'.join(map(str, shape))}" for name, shape in ((times or {}).get("inputs") or {}).items()]
    timed = f", and times are those of made-up {', '.join(shapes)}" if shapes else ""
    return f"MACs count {', '.join(free)} as 1{timed}: give --data, or pin real sizes with --shape" if free else ""


def timing_inputs(model: Model, seed: int, source: DataSource | None) -> Mapping[str, np.ndarray]:
    """Made-up ones, or of data where sizes are from there."""
    first = next(source.batches(1), None) if model.sizes and source is not None else None
    return runnable_inputs(model, seed=seed, batches=(1, 2)) if first is None else first.inputs


def latencies(
    before: Model, after: Model, seed: int, source: DataSource | None, given: Given | None = None
) -> dict[str, Any]:
    """Both models on the same inputs, one thread, run in turn: on made-up ones, or on data where sizes are from there.

    ``before`` is the file as it was ``given``, where that runs: then ``loaded`` is the time of what was read from it.
    """
    feed = timing_inputs(before, seed, source)
    file = given.session(feed) if given and given.read.notes else None
    timing = time_models([*([file] if file is not None else []), before, after], inputs=feed)
    times = [one.median_ms for one in timing.latencies]
    found = {"before": times[0], "after": times[-1], "speedup": timing.speedup(len(times) - 1)}
    found |= {"loaded": times[1]} if file is not None else {}
    shapes = {name: list(np.shape(value)) for name, value in feed.items()}
    verdict = timing.verdict(len(times) - 1)
    return {**found, "verdict": verdict, "threads": 1, "machine": timing.machine, "inputs": shapes}


def known_latencies(found: LatencyReport, loading: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same from what a pass measured to meet its target, which is of what was read; ``loading`` is what that gained."""
    gain = loading["speedup"] if loading and "loaded" in loading else 1.0
    times = {"before": found.before_ms * gain, "after": found.after_ms, "speedup": gain / found.kept}
    times |= {"loaded": found.before_ms} if gain != 1.0 else {}
    slower, faster = times["speedup"] < 1 - NOISE, times["speedup"] > 1 + NOISE
    return {
        **times,
        "verdict": "slower" if slower else "faster" if faster else "same",
        "threads": found.threads,
        "machine": found.machine,
    }
