"""Scales and zero points of activations, from what the calibration data makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...graph.model import Model
from ...measure.data import DataSource
from ..base import Context
from ..calibration.layers import Layer, Layers, spread_places
from ..calibration.runner import collect
from ..calibration.statistics import Histogram
from .grid import Affine, Grid, affine
from .placement import Placement
from .ranges import BINS, RANGES, Range

AUTO = "auto"
_TRIED_ON = 32
"""Samples on which ranges are compared."""
_ROWS = 2048
"""Rows of each layer that they are compared on."""
_SIMILAR = 0.5
"""Operands of a Concat share a scale if their own range is at least this part of the common one: one bit is lost."""


@dataclass(frozen=True)
class Found:
    """Scale and zero point of each quantized tensor, and which range method they come from."""

    affines: dict[str, Affine]
    methods: dict[str, str]


def calibrate(
    model: Model,
    placement: Placement,
    data: DataSource,
    grid: Grid,
    *,
    symmetric: bool,
    method: str,
    context: Context,
) -> Found:
    """One reading of the data for the histograms, and with ``auto`` one of a few samples to compare the methods.

    Raises:
        BadData: there are no samples, or they are not finite.
    """
    roots = [name for name in placement.tensors if name not in placement.moved]
    histograms = {name: Histogram(BINS) for name in roots}
    collect(model, data, {n: [h] for n, h in histograms.items()}, tick=context.tick)
    names = list(RANGES) if method == AUTO else [method]
    ranges = {
        root: {name: RANGES[name](histogram, grid, symmetric) for name in names}
        for root, histogram in histograms.items()
    }
    best = dict.fromkeys(roots, names[0])
    if len(names) > 1:
        best = _compare(model, placement, data, ranges, grid, symmetric)
    return Found(assigned(placement, {r: ranges[r][best[r]] for r in roots}, grid, symmetric), best)


def assigned(placement: Placement, ranges: Mapping[str, Range], grid: Grid, symmetric: bool) -> dict[str, Affine]:
    """Scales from ranges: what moves values keeps their scale, what is put side by side shares one if it costs little."""
    ranges = dict(ranges)
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
    ranges: Mapping[str, Mapping[str, Range]],
    grid: Grid,
    symmetric: bool,
) -> dict[str, str]:
    """The method for each tensor that leaves the layers behind it the best signal-to-noise ratio."""
    readers: dict[str, list[Layer]] = {}
    for layer in Layers(model):
        readers.setdefault(_root(placement, layer.x), []).append(layer)
    trials = {
        root: Trial(
            {name: affine(*limits, grid, symmetric=symmetric) for name, limits in tried.items()},
            [(one, one.matrix(model.weights[one.weight]).astype(np.float32)) for one in readers.get(root, ())]
            if all(one.x == root for one in readers.get(root, ()))
            else [],
        )
        for root, tried in ranges.items()
    }
    few = replace(data, limit=min(_TRIED_ON, data.limit or _TRIED_ON))
    collect(model, few, {root: [trial] for root, trial in trials.items()})
    return {root: trial.best for root, trial in trials.items()}


@dataclass
class Trial:
    """Compares ways to quantize one tensor by the errors they cause in the layers that read it."""

    tried: Mapping[str, Affine]
    readers: Sequence[tuple[Layer, np.ndarray]]
    _noise: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    _signal: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False)

    def add(self, values: np.ndarray) -> None:
        rows = [self._rows(layer, values) for layer, _ in self.readers]
        power = np.array([self._power(k, u) for k, u in enumerate(rows or [values])])
        self._signal = power if not self._noise else self._signal + power
        for name, found in self.tried.items():
            errors = [_error(found, u) for u in rows or [values]]
            power = np.array([self._power(k, e) for k, e in enumerate(errors)])
            self._noise[name] = power if name not in self._noise else self._noise[name] + power

    @property
    def best(self) -> str:
        """The first of the least noise."""
        power = np.maximum(self._signal, 1e-30)
        return min(self.tried, key=lambda name: float((self._noise[name] / power).sum()))

    def _rows(self, layer: Layer, values: np.ndarray) -> np.ndarray:
        wanted = -(-_ROWS // max(1, len(values)))
        return layer.rows(values, spread_places(layer, values, wanted, np.arange(len(values))))

    def _power(self, reader: int, rows: np.ndarray) -> float:
        """Power of what a reader makes of rows, offsets aside; of the rows themselves without readers."""
        made = np.matmul(rows, self.readers[reader][1].transpose(0, 2, 1)) if self.readers else rows
        return float(np.square(made, dtype=np.float64).sum())


def _error(found: Affine, values: np.ndarray) -> np.ndarray:
    """What rounding changes, in the precision of the values."""
    scale, zero = found.scale.astype(values.dtype), found.zero.astype(values.dtype)
    rounded = np.rint(values / scale)
    np.clip(rounded, found.grid.low - zero, found.grid.high - zero, out=rounded)
    rounded *= scale
    rounded -= values
    return rounded
