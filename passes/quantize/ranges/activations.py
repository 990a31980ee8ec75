"""Scales and zero points of activations, from what the calibration data makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....measure.data.source import DataSource
from ...base import Context
from ...calibration.moments import one_blas_thread
from ...calibration.runner import collect, inferred_bytes, require_data
from ...calibration.seen import Seen
from ...calibration.statistics import Histogram, Statistic
from ...precision.grid import Affine, Grid, affine
from ..options import AUTO
from ..placement.placement import Placement
from .ranges import BINS, RANGES, Range, rounding_error, squared_error

_COUNTED = 1 << 19
"""Values of a tensor that its histogram counts at least, where there are so many."""
_SIMILAR = 0.5
"""Operands of a Concat share a scale if their own range is at least this part of the common one: one bit is lost."""


@dataclass(frozen=True)
class Found:
    """Scale and zero point of each quantized tensor, which range method they come from, and what layers read, by node."""

    affines: dict[str, Affine]
    methods: dict[str, str]
    notes: Sequence[str] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)


@one_blas_thread
def calibrate(model: Model, placement: Placement, grid: Grid, symmetric: bool, method: str, context: Context) -> Found:
    """One reading of the data tells everything: the histograms, and what reaches the layers.

    Raises:
        BadData: there are no samples, or they are not finite.
    """
    data = require_data(context)
    roots = [name for name in placement.tensors if name not in placement.moved]
    histograms = {name: Histogram(BINS, every) for name, every in _strides(model, roots, data).items()}
    seen = {one.node: Seen(one) for one in Layers(model) if one.place in placement.nodes}
    wanted: dict[str, list[Statistic]] = {name: [histogram] for name, histogram in histograms.items()}
    for one in seen.values():
        wanted.setdefault(one.layer.x, []).append(one)
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
        best = _compare(model, placement, tried, histograms, seen)
    affines = assign_scales(placement, {r: ranges[r][best[r]] for r in roots}, grid, symmetric)
    return Found(affines, best, [_too_few(data, short)] if short else [], seen)


def _strides(model: Model, names: Sequence[str], data: DataSource) -> dict[str, int]:
    """How far apart the values lie that are counted, so that all places of a sample have their turn."""
    first = next(data.batches(1), None)
    sizes = {} if first is None else inferred_bytes(model, names, first.inputs)
    found = dict.fromkeys(names, 1)
    for name, size in sizes.items():
        values = size // 4 // data.batch_size(1)
        every = max(1, values * (data.samples or 0) // _COUNTED)
        while gcd(every, values) > 1:
            every -= 1
        found[name] = every
    return found


def _too_few(data: DataSource, short: set[str]) -> str:
    rows = data.batch_size(1)
    of = "" if data.samples is None else f"{data.samples % rows} of {data.samples} "
    return (
        f"the last {of}samples are left out of the ranges of {len(short)} tensor{'s' * (len(short) > 1)}, such as "
        f"{min(short)!r}: the model takes {rows} at once; give a multiple of {rows} with --samples"
    )


def assign_scales(placement: Placement, ranges: Mapping[str, Range], grid: Grid, symmetric: bool) -> dict[str, Affine]:
    """Scales from ranges: what moves values keeps their scale, what is put side by side shares one if it costs little."""
    steps = 1 << grid.bits
    unit = {name: -1.0 if symmetric else low for name, low in placement.lowest.items()}
    ranges = {**ranges, **{name: (low, 1 - (1 - low) / steps) for name, low in unit.items()}}
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
    tried: Mapping[str, Mapping[str, Affine]],
    histograms: Mapping[str, Histogram],
    seen: Mapping[str, Seen],
) -> dict[str, str]:
    """The method for each tensor that leaves the layers behind it the best signal-to-noise ratio."""
    readers: dict[str, list[Layer]] = {}
    for layer in Layers(model):
        readers.setdefault(_root(placement, layer.x), []).append(layer)
    best = {}
    for root, affines in tried.items():
        expected = {name: squared_error(histograms[root], found) for name, found in affines.items()}
        known = [seen[one.node] for one in readers.get(root, ()) if one.x == root and one.node in seen]
        whole = len(known) == len(readers.get(root, ()))
        trial = Trial(affines, expected)
        for one in known if whole else ():
            trial.add(one.patches, one.layer.matrix(model.weights[one.layer.weight]).astype(np.float32))
        best[root] = trial.best
    return best


@dataclass
class Trial:
    """Compares ways to quantize one tensor by the errors they cause in the layers that read it.

    A few samples hardly tell how much the few values cost that saturate: ``expected``, the mean squared error of all
    values, does. They only tell by how much layers enlarge it.
    """

    tried: Mapping[str, Affine]
    expected: Mapping[str, float]
    _enlarged: dict[str, float] = field(default_factory=dict, init=False)

    def add(self, seen: np.ndarray, matrices: np.ndarray) -> None:
        """Take in a reader. Shapes: seen (groups, patches, columns), matrices (groups, outputs, columns)."""

        def made(values: np.ndarray) -> float:
            return max(_power(np.matmul(values, matrices.transpose(0, 2, 1))), 1e-30)

        signal = made(seen)
        for name, found in self.tried.items():
            error = rounding_error(found, seen)
            enlarged = made(error) / max(_power(error), 1e-30) / signal
            self._enlarged[name] = self._enlarged.get(name, 0.0) + enlarged

    @property
    def best(self) -> str:
        """The first of the least noise to signal, of all readers together."""
        return min(self.tried, key=lambda name: self.expected[name] * self._enlarged.get(name, 1.0))


def _power(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())
