"""What is run on each real model, and what is told of a run: exit code, reason, size and noise, no times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from intaglio import load
from intaglio.graph.coupling import Coupling, analyse

Feeds = dict[str, np.ndarray]
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "check": ("check",),
    "inspect": ("inspect",),
    "groups": ("groups",),
    "prune": ("prune", "--params", "0.7"),
    "factorize": ("factorize", "--params", "0.7"),
    "w8": ("quantize", "--scheme", "w8"),
    "w4": ("quantize", "--scheme", "w4"),
    "fp16": ("quantize", "--scheme", "fp16"),
    "dynamic": ("quantize", "--scheme", "dynamic"),
    "int8": ("quantize", "--scheme", "int8", "--data", "DATA"),
    "binarize": ("binarize",),
}
READS = ("check", "inspect", "groups")
MORE: Mapping[str, tuple[str, ...]] = {"silero_op15": ("--input", "sr=16000", "--shape", "input:-1,576")}
"""Options that a model wants, of all commands but ``check``."""
_WANTS = (
    "has no channel rule",
    "hands it to a body",
    "has a channel rule that failed",
    "could not be worked out",
    "shapes are unknown",
)
"""Reasons that are ours: an operator that nobody described."""
ROUNDING = 1e-6
"""Differences below this are none: scores close to 0 come out of sums of large numbers."""
EXACT = 120.0
"""Decibels from which on outputs count as equal."""


def sizes(name: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shapes of a model's inputs for two samples, and below which number integers are."""
    known: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {
        "arname_dec": {
            "prefix": ((2, 4), 60),
            "memory": ((2, 7, 256), 0),
            "src_mask": ((2, 7), 2),
            "hidden": ((2, 2, 256), 0),
        },
        "basic_pitch": {"serving_default_input_2:0": ((2, 43844, 1), 0)},
        "eeg_spindle": {"raw_signal": ((2, 1, 7500), 0), "spectrogram": ((2, 15, 7500), 0)},
        "magika": {"bytes": ((2, 2048), 256)},
        "minilm_l3": {"input_ids": ((2, 12), 30000), "attention_mask": ((2, 12), 1)},
        "ppocr_det": {"x": ((2, 3, 96, 128), 0)},
        "silero_op15": {"input": ((2, 576), 0), "state": ((2, 2, 128), 0), "sr": ((), 16000)},
        "silero_seq": {"input": ((4, 576), 0), "h": ((1, 1, 128), 0), "c": ((1, 1, 128), 0)},
        "slovorez": {"input_layer": ((2, 20), 30)},
        "surf_gbr": {"input": ((2, 4), 0)},
    }
    return known[name]


def made_up(name: str, model: Path) -> Feeds:
    """Random inputs: floats around 0; integers below a bound, or the bound itself where there is one value only."""
    rng, feeds = np.random.default_rng(0), {}
    kinds = {i.name: i.type for i in session(model).get_inputs()}
    for key, (shape, below) in sizes(name).items():
        kind = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}.get(kinds[key], "float32")
        if kind == "float32":
            value: np.ndarray = strokes(shape) if name == "ppocr_det" else rng.standard_normal(shape)
        else:
            value = (
                rng.integers(1, below, shape) if shape and below > 2 else np.full(shape, max(1, below - (below == 2)))
            )
        feeds[key] = value.astype(kind)
    return feeds


def strokes(shape: tuple[int, ...]) -> np.ndarray:
    """White pages with dark marks in rows, so that there is text to be found."""
    rng, image = np.random.default_rng(0), np.ones(shape)
    for page in image:
        for top in range(16, shape[2] - 24, 40):
            for left in range(16, shape[3] - 24, 9):
                page[:, top : top + 16, left : left + 6] = 1 - 2 * np.kron(rng.integers(0, 2, (4, 3)), np.ones((4, 2)))
    return image


def session(model: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def outputs(model: Path, feeds: Feeds) -> list[np.ndarray]:
    opened = session(model)
    names = {i.name for i in opened.get_inputs()}
    return [np.asarray(v) for v in opened.run(None, {k: v for k, v in feeds.items() if k in names})]


def noise_db(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Signal to noise of the worst output.

    Raises:
        AssertionError: an output has another shape, or is not finite though it was.
    """
    worst = EXACT
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape
        x, y = (v.astype(np.float64) for v in (a, b))
        assert np.isfinite(y[np.isfinite(x)]).all()
        gap = np.where(np.isfinite(x), x - y, 0.0)
        gap[np.abs(gap) < ROUNDING] = 0
        power, rest = float((np.where(np.isfinite(x), x, 0) ** 2).sum()), float((gap**2).sum())
        worst = min(worst, 10 * math.log10(power / rest)) if rest and power else worst
    return worst


@dataclass(frozen=True)
class Result:
    """One run. ``kept`` is the percentage of the file's bytes, ``noise`` in decibels; None where nothing was written."""

    command: str
    code: int
    kept: float | None
    noise: float | None
    told: str

    @property
    def row(self) -> str:
        numbers = (
            "-" if v is None else f"{v:.1f}" if v < 100 or v == self.kept else "equal" for v in (self.kept, self.noise)
        )
        return "\t".join((self.command, str(self.code), *numbers, self.told))

    @classmethod
    def of(cls, row: str) -> Result:
        command, code, kept, noise, told = row.split("\t")
        size, ratio = (None if v == "-" else EXACT if v == "equal" else float(v) for v in (kept, noise))
        return cls(command, int(code), size, ratio, told)

    def near(self, other: Result) -> bool:
        """The same, but for what another processor rounds differently."""
        same = (self.command, self.code, self.told) == (other.command, other.code, other.told)
        return same and _near(self.kept, other.kept, 1.5) and _near(self.noise, other.noise, 4.0, 60.0)


def _near(a: float | None, b: float | None, apart: float, enough: float = math.inf) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= apart or min(a, b) >= enough


def frozen(coupling: Coupling) -> tuple[float, float]:
    """Fractions of the parameters that no group can lose: of all, and of those that want a rule or a shape."""
    free = {name for group in coupling.groups if not group.frozen_by for name, _ in group.members}
    sizes = {name: count for name, count in coupling.params.items() if name not in free}
    wanting = {
        name
        for group in coupling.groups
        if any(text in str(group.frozen_by) for text in _WANTS)
        for name, _ in group.members
    }
    total = max(1, sum(coupling.params.values()))
    return sum(sizes.values()) / total, sum(count for name, count in sizes.items() if name in wanting) / total


def told_of_groups(model: Path, name: str) -> tuple[str, float]:
    """A line about a model's groups, and how much is frozen for want of a rule or a shape."""
    pinned = name in MORE
    coupling = analyse(
        load(model, values={"sr": 16000} if pinned else {}, shapes={"input": (-1, 576)} if pinned else {})
    )
    all_, wanting = frozen(coupling)
    free = sum(not group.frozen_by for group in coupling.groups)
    return f"{free} of {len(coupling.groups)} groups prunable, {all_:.1%} of the parameters frozen", wanting
