"""What a layer sees and what it should make of it, over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...graph.errors import BadData, BadModel
from ..calibration.goals import Goal
from ..calibration.layers import Floats, Ints, Layer, spread_places
from ..calibration.moments import Moments
from ..calibration.reconstruct import Sample, ridge
from ..calibration.stream import Batch, Stream

ROWS = 1 << 17
"""Rows that a layer is fitted to, over all samples together."""
LARGEST = 8192
"""Columns up to which second moments are taken: these are square matrices."""
STRENGTH = 1e-4
"""Pull towards the old weights: low rank is restraint enough."""
NOISE_STRENGTH = 0.1
"""The same where statistics are those of noise."""


@dataclass(frozen=True)
class Wanted:
    """What a layer should be, were it not for the rank. Shapes: (groups, outputs, columns), (groups, columns, columns).

    ``scale`` is the variance of what it should make; with ``centred`` its bias takes the means.
    """

    weight: Floats
    moments: Floats
    mean: Floats
    target_mean: Floats
    scale: float
    centred: bool

    @classmethod
    def of(cls, moments: Moments, old: Floats, *, centred: bool, strength: float = STRENGTH) -> Wanted:
        fit = ridge(moments, old, centred=centred, strength=strength)
        h = moments.covariance if centred else moments.second
        damp = np.maximum(strength * np.einsum("gcc->g", h) / h.shape[1], 1e-12)
        damped = h + damp[:, None, None] * np.eye(h.shape[1])
        scale = max(float(moments.target_variance.sum()), 1e-30)
        return cls(fit.weight, damped, moments.mean, moments.target_mean, scale, centred)

    def offset(self, weight: Floats) -> Floats:
        """The bias that makes means right with this weight. Shapes: (groups, outputs)."""
        return np.asarray(self.target_mean - np.einsum("goc,gc->go", weight, self.mean))

    def loss(self, weight: Floats) -> float:
        """What this weight adds to the squared error, relative to the variance of what is wanted."""
        error = weight - self.weight
        return float(np.einsum("goc,goc->", np.matmul(error, self.moments), error)) / self.scale


def moments_of(layer: Layer, goal: Goal, ours: Stream, theirs: Stream, rows: int = ROWS) -> Moments:
    """Moments of what reaches a layer in one network with what it is to become in another.

    Raises:
        BadModel: the two do not fit together.
        BadData: they hold NaN or infinity.
    """
    moments = Moments()
    moments.add_all(partial(_plain, make) for make in samples_of(layer, goal, ours, theirs, rows))
    if not np.isfinite(moments.target_variance).all() or not np.isfinite(moments.mean).all():
        raise BadData(
            f"{layer.op} {layer.node!r} meets NaN or infinity on the calibration data",
            why="no statistics can be taken of that",
            fix="check the data and its --preprocess with: intaglio evaluate MODEL --data SOURCE",
        )
    return moments


def samples_of(
    layer: Layer, goal: Goal, ours: Stream, theirs: Stream, rows: int = ROWS
) -> Iterator[Callable[[], Sample]]:
    """Batch by batch, as functions that make the rows when called."""
    positions = -(-rows // ours.samples)
    pairs = zip(ours.batches([layer.x, *goal.others]), theirs.batches([goal.tensor]), ours.keys, strict=True)

    def sample(mine: Batch, other: Batch, keys: Ints) -> Sample:
        wanted = other[goal.tensor]
        if len(wanted) != len(mine[layer.x]) or any(mine[n].shape[0] != len(wanted) for n in goal.others):
            raise BadModel(
                f"{layer.op} {layer.node!r} cannot be fitted: the compressed network gives it other shapes",
                why="shapes that depend on values, as after NonZero, do not stay comparable",
                fix="run without --data, or --exclude what comes before it",
            )
        chosen = spread_places(layer, mine[layer.x], positions, keys)
        others = sum((layer.values(mine[name], chosen) for name in goal.others), 0.0)
        return Sample(layer.rows(mine[layer.x], chosen), layer.values(wanted, chosen), others)

    for mine, other, keys in pairs:
        yield partial(sample, mine, other, keys)


def _plain(make: Callable[[], Sample]) -> tuple[Floats, Floats]:
    sample = make()
    return sample.rows, sample.target
