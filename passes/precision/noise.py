"""How much noise quantization adds: signal-to-noise ratios of layers and outputs, measured on real inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.index import index_of
from ...graph.model import Model
from ...measure.data.source import Batch, DataSource
from ...measure.run.released import give_back
from ...measure.run.session import open_session, run
from ...measure.run.tensor_specs import input_specs
from ..by_parts import is_large, side_by_side
from ..calibration.activation_cache import part
from ..calibration.runner import cached, plan, run_bytes
from .decibels import EXACT, Noise
from .result import LayerNote

SAMPLES, _INSIDE, _BY_PARTS = 64, 32, 8
"""Inputs that outputs, and layers, are looked at on, and those of a run part by part."""
_WORST = 5
"""Layers that are told of."""


def measure(
    original: Model, result: Model, names: Sequence[str], data: DataSource, memory: int, optimize: bool = True
) -> dict[str, float]:
    """Signal-to-noise ratios of tensors that both models make. Units: decibels. Tensors of other shapes are left out."""
    first = next(data.batches(1), None)
    made = index_of(original).place.keys() & index_of(result).place.keys()
    names = [n for n in dict.fromkeys(names) if n in made]
    if first is None or not names:
        return {}
    if is_large(original, memory):
        batch = data.batch_size(_BY_PARTS)
        feeds = ((one.inputs, one.inputs) for one in _first(data, batch, _INSIDE))
        both = side_by_side(original, result, names, feeds, memory, optimize=optimize)
        return _compared([one.theirs, one.ours] for one in both)
    found: dict[str, float] = {}
    inputs = [p.name for p in input_specs(original)]
    sizes = run_bytes(original, names, first.inputs)
    for sweep in plan(sizes, memory // 4, data.batch_size(cached(sizes, _INSIDE))):
        give_back()
        parts = [part(m, sweep.names, inputs) for m in (original, result)]
        sessions = [(open_session(m, optimize=optimize), sources) for m, sources in parts]
        found |= _compared(
            [run(s, {n: batch.inputs[n] for n in sources}, sweep.names) for s, sources in sessions]
            for batch in _first(data, sweep.batch, _INSIDE)
        )
    return found


def outputs_noise(
    original: Model, result: Model, data: DataSource, memory: int, optimize: bool = True
) -> dict[str, float]:
    """The same of the float outputs, both models as they run. Units: decibels."""
    if is_large(original, memory):
        return measure(original, result, [value.name for value in original.graph.output], data, memory, optimize)
    give_back()
    sessions = [open_session(m, optimize=optimize) for m in (original, result)]
    return _compared([run(s, batch.inputs) for s in sessions] for batch in _first(data, SAMPLES))


def _first(data: DataSource, size: int, samples: int = SAMPLES) -> Iterator[Batch]:
    """The samples that are looked at."""
    seen = 0
    for batch in data.batches(size):
        yield batch
        seen += batch.count
        if seen >= samples:
            return


def _compared(runs: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Decibels of float tensors that two models gave, by name; those of other shapes are left out."""
    found: dict[str, Noise] = defaultdict(Noise)
    unlike: set[str] = set()
    for exact, near in runs:
        for name, value in exact.items():
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                continue
            if near[name].shape != value.shape:
                unlike.add(name)
                continue
            found[name].add(value, near[name])
    return {name: one.decibels for name, one in found.items() if name not in unlike}


ADVICE: Mapping[str, str] = {
    "weights": "its weights need more bits: --exclude it, or give --max-drop with --eval-data",
    "activations": "what it reads needs other scales: try --ranges mse or percentile, --smooth, or --exclude it",
    "prefix": "most of it comes from the layers before: mend those first",
}


def find_worst(
    layers: Sequence[LayerNote], noise: Mapping[str, float], *, rounded: bool = True
) -> list[dict[str, Any]]:
    """The noisiest layers first, for reports, and where most of their noise comes from. A layer's noise is that of its weights if these alone explain half of it, else that of what
    it reads if that is as noisy, or not ``rounded`` itself, else the rounding of what it reads.
    """
    known = [one for one in layers if one.tensor in noise]
    known.sort(key=lambda one: noise[one.tensor])
    found = []
    for one in known[:_WORST]:
        ratio = 10 ** (-noise[one.tensor] / 10)
        if one.error is not None and one.error >= ratio / 2:
            cause = "weights"
        else:
            before = 10 ** (-noise.get(one.reads, EXACT) / 10) >= ratio / 2
            cause = "prefix" if before or not rounded else "activations"
        told = {"name": one.name, "sqnr_db": noise[one.tensor], "cause": cause, "advice": ADVICE[cause]}
        found.append(told)
    return found
