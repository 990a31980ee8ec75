"""Scales and zero points of activations, from what the calibration data makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....measure.data.source import DataSource
from ...base import Context
from ...calibration.patches import patches, spread_places
from ...calibration.runner import collect, require_data
from ...calibration.statistics import Histogram
from ...precision.grid import Affine, Grid, affine
from ..options import AUTO
from ..placement.placement import Placement
from .ranges import BINS, RANGES, Range, squared_error

_TRIED_ON = 32
"""Samples that tell what a layer makes of the errors in what it reads."""
_PATCHES = 1024
"""Patches of each layer that tell it."""
_SIMILAR = 0.5
"""Operands of a Concat share a scale if their own range is at least this part of the common one: one bit is lost."""


@dataclass(frozen=True)
class Found:
    """Scale and zero point of each quantized tensor, and which range method they come from."""

    affines: dict[str, Affine]
    methods: dict[str, str]
    notes: Sequence[str] = ()


def calibrate(model: Model, placement: Placement, grid: Grid, symmetric: bool, method: str, context: Context) -> Found:
    """One reading of the data for the histograms, and with ``auto`` one of a few samples to compare the methods.

    Raises:
        BadData: there are no samples, or they are not finite.
    """
    data = require_data(context)
    roots = [name for name in placement.tensors if name not in placement.moved]
    histograms = {name: Histogram(BINS) for name in roots}
    wanted = {name: [histogram] for name, histogram in histograms.items()}
    short: set[str] = set()
    collect(model, data, wanted, budget_bytes=context.memory // 2, tick=context.tick, short=short)
    names = RANGES.builtin if method == AUTO else [method]
    ranges = {
        root: {name: RANGES[name](histogram, grid, symmetric) for name in names}
        for root, histogram in histograms.items()
    }
    best = dict.fromkeys(roots, names[0])
    if len(names) > 1:
        tried = {
            root: {name: affine(*limits, grid, symmetric=symmetric) for name, limits in found.items()}
            for root, found in ranges.items()
        }
        best = _compare(model, placement, data, tried, histograms, context.memory // 2)
    affines = assign_scales(placement, {r: ranges[r][best[r]] for r in roots}, grid, symmetric)
    return Found(affines, best, [_too_few(data, short)] if short else [])


def _too_few(data: DataSource, short: set[str]) -> str:
    rows = data.batch_size(1)
    of = "" if data.samples is None else f"{data.samples % rows} of {data.samples} "
    return (
        f"the last {of}samples are left out of the ranges of {len(short)} tensor{'s' * (len(short) > 1)}, such as "
        f"{min(short)!r}: the model takes {rows} at once; give a multiple of {rows} with --samples"
    )


def assign_scales(placement: Placement, ranges: Mapping[str, Range], grid: Grid, symmetric: bool) -> dict[str, Affine]:
    """Scales from ranges: what moves values keeps their scale, what is put side by side shares one if it costs little."""
    ranges = {**ranges, **placement.fixed}
    for output, operands in placement.joined.items():
        root = _root(placement, output)
        for operand in operands:
            other = _root(placement, operand)
            if root in ranges and other in ranges and _width(ranges[other]) >= _SIMILAR * _width(ranges[root]):
                ranges[other] = ranges[root]
    found = {}
    for name in placement.tensors:
        low, high = ranges[_root(placement, name)]
        found[name] = affine(low, high, grid, symmetric=symmetric)
    return found


def _root(placement: Placement, name: str) -> str:
    while name in placement.moved:
        name = placement.moved[name]
    return name


def _width(limits: Range) -> float:
    return max(limits[1], 0.0) - min(limits[0], 0.0)


def _compare(
    model: Model,
    placement: Placement,
    data: DataSource,
    tried: Mapping[str, Mapping[str, Affine]],
    histograms: Mapping[str, Histogram],
    budget_bytes: int,
) -> dict[str, str]:
    """The method for each tensor that leaves the layers behind it the best signal-to-noise ratio."""
    readers: dict[str, list[Layer]] = {}
    for layer in Layers(model):
        readers.setdefault(_root(placement, layer.x), []).append(layer)
    trials = {
        root: Trial(
            affines,
            {name: squared_error(histograms[root], found) for name, found in affines.items()},
            [(one, one.matrix(model.weights[one.weight]).astype(np.float32)) for one in readers.get(root, ())]
            if all(one.x == root for one in readers.get(root, ()))
            else [],
        )
        for root, affines in tried.items()
    }
    few = replace(data, limit=min(_TRIED_ON, data.limit or _TRIED_ON))
    wanted = {root: [trial] for root, trial in trials.items() if trial.readers}
    collect(model, few, wanted, budget_bytes=budget_bytes, short=set())
    return {root: trial.best for root, trial in trials.items()}


@dataclass
class Trial:
    """Compares ways to quantize one tensor by the errors they cause in the layers that read it.

    A few samples hardly tell how much the few values cost that saturate: ``expected``, the mean squared error of all
    values, does. They only tell by how much layers enlarge it.
    """

    tried: Mapping[str, Affine]
    expected: Mapping[str, float]
    readers: Sequence[tuple[Layer, np.ndarray]]
    _noise: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    _signal: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False)

    def add(self, values: np.ndarray) -> None:
        seen = [self._patches(layer, values) for layer, _ in self.readers]
        power = np.array([_power(self._made(k, u)) for k, u in enumerate(seen)])
        self._signal = self._signal + power if self._noise else power
        for name, found in self.tried.items():
            errors = [_error(found, u) for u in seen]
            powers = np.array([[_power(e), _power(self._made(k, e))] for k, e in enumerate(errors)])
            self._noise[name] = self._noise[name] + powers if name in self._noise else powers

    @property
    def best(self) -> str:
        """The first of the least noise."""
        return min(self.tried, key=lambda name: self.expected[name] * self._enlarged(name))

    def _enlarged(self, name: str) -> float:
        """Noise to signal of all readers together, for an error of 1."""
        if not self._noise:
            return 1.0
        before, after = np.maximum(self._noise[name].T, 1e-30)
        return float((after / before / np.maximum(self._signal, 1e-30)).sum())

    def _patches(self, layer: Layer, values: np.ndarray) -> np.ndarray:
        wanted = -(-_PATCHES // max(1, len(values)))
        return patches(layer, values, spread_places(layer, values, wanted, np.arange(len(values))))

    def _made(self, reader: int, seen: np.ndarray) -> np.ndarray:
        """What a reader makes of patches, offsets aside."""
        return np.asarray(np.matmul(seen, self.readers[reader][1].transpose(0, 2, 1)))


def _power(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _error(found: Affine, values: np.ndarray) -> np.ndarray:
    """What rounding changes, in the precision of the values."""
    scale, zero = found.scale.astype(values.dtype), found.zero.astype(values.dtype)
    rounded = np.rint(values / scale)
    np.clip(rounded, found.grid.low - zero, found.grid.high - zero, out=rounded)
    rounded *= scale
    rounded -= values
    return rounded
