"""What calibration data make of the tensors that weights are multiplied with, for criteria that need it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...graph.coupling import Coupling
from ...graph.coupling.labels import Axes, IntArray, Why
from ...graph.index import index_of
from ..base import Context
from ..calibration.moments import Moments
from ..calibration.runner import collect, require_data
from ..calibration.statistics import NotFinite, Statistic
from ..needs import ACTIVATIONS, CURVATURE, GRADIENTS, MEANS, SECOND_MOMENTS, VARIANCES, undeclared

Floats = NDArray[np.float64]
_POSITIONS = 4096
"""Of a sample of activations."""


@dataclass(frozen=True)
class Inputs:
    """What a layer reads at the entries of a weight's axis. Only what was declared as needed is there."""

    known: Mapping[str, Floats] = field(repr=False)

    @property
    def means(self) -> Floats:
        """Shapes: (entries,)."""
        return self._of(MEANS)

    @property
    def variances(self) -> Floats:
        """Shapes: (entries,)."""
        return self._of(VARIANCES)

    @property
    def second_moments(self) -> Floats:
        """About zero. Shapes: (entries, entries)."""
        return self._of(SECOND_MOMENTS)

    @property
    def activations(self) -> Floats:
        """Values at some positions. Shapes: (positions, entries)."""
        return self._of(ACTIVATIONS)

    def at(self, entries: NDArray[np.int64], length: int) -> Inputs:
        """At some entries of an axis of that length; the groups of a grouped convolution, which share it, averaged."""
        known = {
            need: _mean(values, length)[..., entries] for need, values in self.known.items() if need != SECOND_MOMENTS
        }
        if SECOND_MOMENTS in self.known:
            known[SECOND_MOMENTS] = _within_groups(self.known[SECOND_MOMENTS], length)[np.ix_(entries, entries)]
        return Inputs(known)

    def _of(self, need: str) -> Floats:
        if need not in self.known:
            raise undeclared("criterion", need)
        return self.known[need]


class Positions:
    """What is needed of a tensor's positions, one channel a column.

    Means and variances are summed about the first positions' means, so that large means cost no digits.
    """

    def __init__(self, axis: int, needs: Collection[str]) -> None:
        self.axis, self.needs, self.count = axis, needs, 0
        self.moments, self.sample = Moments(), list[Floats]()

    def add(self, values: np.ndarray) -> None:
        rows = np.moveaxis(values, self.axis, -1).reshape(-1, values.shape[self.axis]).astype(np.float64)
        if not np.isfinite(rows).all():
            raise NotFinite("it holds NaN or infinity")
        if not self.count:
            self.shift, self.sums = rows.mean(axis=0), np.zeros((2, rows.shape[1]))
        gaps = rows - self.shift
        self.sums += gaps.sum(axis=0), np.square(gaps).sum(axis=0)
        if SECOND_MOMENTS in self.needs:
            self.moments.add(rows[None])
        if ACTIVATIONS in self.needs:
            self.sample.append(rows[: max(0, _POSITIONS - self.count)])
        self.count += len(rows)

    def known(self) -> Inputs:
        mean, square = self.sums / self.count
        found: dict[str, Callable[[], Floats]] = {
            MEANS: lambda: self.shift + mean,
            VARIANCES: lambda: square - np.square(mean),
            SECOND_MOMENTS: lambda: self.moments.second_moment[0],
            ACTIVATIONS: lambda: np.concatenate(self.sample),
        }
        return Inputs({need: found[need]() for need in self.needs})


def _within_groups(values: Floats, length: int) -> Floats:
    """Shapes: (groups * length, groups * length) -> (length, length), products across groups left out."""
    groups = len(values) // length
    blocks = values.reshape(groups, length, groups, length)
    return np.asarray(np.einsum("gigj->ij", blocks) / groups)


def _mean(values: Floats, length: int) -> Floats:
    """Shapes: (..., groups * length) -> (..., length)."""
    return np.asarray(values.reshape(*values.shape[:-1], -1, length).mean(axis=-2))


def collected(coupling: Coupling, needs: tuple[str, ...], context: Context) -> dict[int, Inputs]:
    """What is multiplied with constants, by the identity of the labels of the constants' axes; one reading of the data.

    Raises:
        UsageError: there is no calibration data.
        BadData: it does not fit, or is not finite.
    """
    needs = tuple(need for need in needs if need not in (GRADIENTS, CURVATURE))
    if not needs:
        return {}
    places = {labels: (tensor, axis) for labels, tensor, axis in _multiplied(coupling)}
    found = {place: Positions(place[1], needs) for place in places.values()}
    wanted: dict[str, list[Statistic]] = defaultdict(list)
    for (tensor, _), positions in found.items():
        wanted[tensor].append(positions)
    collect(coupling.model, require_data(context), wanted, budget_bytes=context.memory // 2, tick=context.tick)
    told = {place: positions.known() for place, positions in found.items()}
    return {labels: told[place] for labels, place in places.items()}


def _multiplied(coupling: Coupling) -> Iterator[tuple[int, str, int]]:
    """Pairs that a node sums the products of: the labels of a constant's axis, and the tensor and axis it meets."""
    constant, axes = index_of(coupling.model).constant, coupling.trace.axes
    for mark in coupling.trace.contractions:
        node = coupling.nodes[mark.node]
        labels = axes[node.input[mark.position]][mark.axis]
        if node.input[mark.position] not in constant or isinstance(labels, Why):
            continue
        for name in node.input:
            axis = None if name in constant else _axis_of(coupling, labels, axes.get(name, ()))
            if axis is not None:
                yield id(labels), name, axis


def _axis_of(coupling: Coupling, labels: IntArray, axes: Axes) -> int | None:
    """Which axis of a tensor goes with a constant's: once, or for each group of a grouped convolution."""
    gone = _atoms(coupling, labels)
    for axis, found in enumerate(axes):
        if isinstance(found, Why) or len(found) % len(labels):
            continue
        if found is labels or (gone and gone <= _atoms(coupling, found)):
            return axis
    return None


def _atoms(coupling: Coupling, labels: IntArray) -> set[int]:
    """What takes away indices of an axis."""
    return set(coupling.solution.meets(labels)[1].tolist())
