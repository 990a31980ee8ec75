"""How much noise quantization adds: signal-to-noise ratios of layers and outputs, measured on real inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.index import index_of
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.run.session import open_session, run
from ...measure.run.tensor_specs import input_specs
from ..calibration.activation_cache import part
from ..calibration.runner import plan, run_bytes
from .decibels import EXACT
from .result import LayerNote

SAMPLES = 64
"""Inputs that are looked at."""
_BUDGET_BYTES = 1 << 28


@dataclass
class Noise:
    """Power of values and of what approximations of them are off by, summed over batches."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact: np.ndarray, near: np.ndarray) -> None:
        x = exact.astype(np.float64)
        gap = near.astype(np.float64) - x
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(gap).sum()) if np.isfinite(gap).all() else np.inf

    @property
    def decibels(self) -> float:
        """10 log10 of signal to noise."""
        if not np.isfinite(self.noise):
            return -EXACT
        if self.noise == 0:
            return EXACT
        return float(np.clip(10 * np.log10(max(self.signal, 1e-300) / self.noise), -EXACT, EXACT))


def measure(
    original: Model, result: Model, names: Sequence[str], data: DataSource, optimize: bool = True
) -> dict[str, float]:
    """Signal-to-noise ratios of tensors that both models make. Units: decibels. Tensors of other shapes are left out."""
    first = next(data.batches(1), None)
    made = index_of(original).place.keys() & index_of(result).place.keys()
    names = [n for n in dict.fromkeys(names) if n in made]
    if first is None or not names:
        return {}
    found = {name: Noise() for name in names}
    unlike: set[str] = set()
    inputs = [p.name for p in input_specs(original)]
    for sweep in plan(run_bytes(original, names, first.inputs), _BUDGET_BYTES // 2, data.batch_size(SAMPLES)):
        pair = [part(m, sweep.names, inputs) for m in (original, result)]
        sessions = [(open_session(m, optimize=optimize), sources) for m, sources in pair]
        seen = 0
        for batch in data.batches(sweep.batch):
            values = [run(s, {n: batch.inputs[n] for n in sources}, sweep.names) for s, sources in sessions]
            for name in sweep.names:
                if values[0][name].shape == values[1][name].shape:
                    found[name].add(values[0][name], values[1][name])
                else:
                    unlike.add(name)
            seen += batch.count
            if seen >= SAMPLES:
                break
    return {name: one.decibels for name, one in found.items() if name not in unlike}


def outputs_noise(original: Model, result: Model, data: DataSource, optimize: bool = True) -> dict[str, float]:
    """The same of the float outputs, both models as they run. Units: decibels."""
    sessions = [open_session(m, optimize=optimize) for m in (original, result)]
    found: dict[str, Noise] = {}
    seen = 0
    for batch in data.batches(SAMPLES):
        exact, near = (run(s, batch.inputs) for s in sessions)
        for name, value in exact.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and near[name].shape == value.shape:
                found.setdefault(name, Noise()).add(value, near[name])
        seen += batch.count
        if seen >= SAMPLES:
            break
    return {name: one.decibels for name, one in found.items()}


ADVICE: Mapping[str, str] = {
    "weights": "its weights need more bits: --exclude it, or give --max-drop with --eval-data",
    "activations": "what it reads needs other scales: try --ranges mse or percentile, --smooth, or --exclude it",
    "prefix": "most of it comes from the layers before: mend those first",
}


@dataclass(frozen=True)
class Worst:
    """One of the layers with the least signal to noise, and where most of its noise comes from."""

    name: str
    sqnr_db: float
    cause: str

    @property
    def advice(self) -> str:
        return ADVICE[self.cause]

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {"name": self.name, "sqnr_db": self.sqnr_db, "cause": self.cause, "advice": self.advice}


def find_worst(
    layers: Sequence[LayerNote], noise: Mapping[str, float], count: int = 5, *, rounded: bool = True
) -> list[Worst]:
    """The noisiest first. A layer's noise is that of its weights if these alone explain half of it, else that of what
    it reads if that is as noisy, or not ``rounded`` itself, else the rounding of what it reads.
    """
    known = [one for one in layers if one.tensor in noise]
    known.sort(key=lambda one: noise[one.tensor])
    found = []
    for one in known[:count]:
        ratio = 10 ** (-noise[one.tensor] / 10)
        if one.error is not None and one.error >= ratio / 2:
            cause = "weights"
        else:
            before = 10 ** (-noise.get(one.reads, EXACT) / 10) >= ratio / 2
            cause = "prefix" if before or not rounded else "activations"
        found.append(Worst(one.name, noise[one.tensor], cause))
    return found
