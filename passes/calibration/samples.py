"""Patches that reach a layer in a compressed network, side by side with what they should become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...graph.errors import BadData, BadModel
from ...graph.layer import Floats, Ints, Layer
from ..base import MEMORY
from .activation_cache import ActivationCache, Batch
from .moments import Moments
from .patches import output_shape, outputs_at, patch_shape, patches, spread_places
from .reconstruct import Sample
from .targets import ReconstructionTarget

PATCHES = 1 << 17
"""Patches that statistics of a layer are taken from, over all samples together: where a layer has more positions, a fixed
choice of them is looked at in every sample."""
_PATCHES_MACS = 5e10
"""Multiply-accumulates spent on the second moments of one layer, patches by columns squared: layers of more than some
600 columns look at fewer patches, as neighbouring positions say much the same."""
_LEAST_PATCHES = 4
"""Patches for each column that a wide layer looks at all the same, where the data has so many."""
_PIECE = MEMORY // 8
"""Bytes of patches that are laid out at a time. Sums over them are rounded piece by piece: it is the same whatever a run
may hold.
"""


def patches_for(columns: int, most: int = PATCHES) -> int:
    """Patches that statistics of a layer with so many columns are taken from."""
    return int(min(most, max(_LEAST_PATCHES * columns, _PATCHES_MACS / columns**2)))


def positions_of(layer: Layer, cache: ActivationCache, most: int = PATCHES) -> int:
    """Positions that statistics are taken from in each sample."""
    return -(-patches_for(layer.columns, most) // cache.samples)


def samples_of(
    layer: Layer,
    target: ReconstructionTarget,
    ours: ActivationCache,
    theirs: ActivationCache,
    positions: int,
    left: Callable[[str], Mapping[int, NDArray[np.bool_]]] = lambda tensor: {},
) -> Iterator[Callable[[], Sample]]:
    """Batch by batch, as functions that make the patches when called; ``layer`` is the one of ``ours``.

    Of an axis of ``theirs`` that shrank in ``ours`` only what is ``left`` counts. Calls raise BadModel where the two
    networks give tensors of different shapes.
    """
    shrunk = left(target.tensor)
    pairs = zip(ours.batches([layer.x, *target.others]), theirs.batches([target.tensor]), ours.keys, strict=True)

    def sample(mine: Batch, other: Batch, chosen: Ints) -> Sample:
        wanted, x = other[target.tensor], mine[layer.x]
        along = patch_shape(layer, x)
        if any(output_shape(layer, y) != along for y in (wanted, *(mine[n] for n in target.others))):
            raise BadModel(
                f"{layer.op} {layer.node!r} cannot be fitted: the compressed network gives it other shapes than the original",
                why="shapes that depend on values, as after NonZero, do not stay comparable",
                fix="choose by weights alone, without --data, or --exclude what comes before it",
            )
        for axis, mask in shrunk.items():
            wanted = np.compress(mask, wanted, axis=axis)
        others = sum((outputs_at(layer, mine[name], chosen) for name in target.others), 0.0)
        return Sample(patches(layer, x, chosen), outputs_at(layer, wanted, chosen), others)

    for mine, other, keys in pairs:
        for chosen in _pieces(layer, spread_places(layer, mine[layer.x], positions, keys)):
            yield partial(sample, mine, other, chosen)


def _pieces(layer: Layer, places: Ints) -> list[Ints]:
    """Positions of a batch, a piece at a time."""
    size = 4 * layer.groups * layer.columns * places.size
    return np.array_split(places, max(1, -(-size // _PIECE)), axis=1)


def moments_of(layer: Layer, samples: Iterator[Callable[[], Sample]]) -> Moments:
    """Of the patches that reach a layer, and of what it should make of them.

    Raises:
        BadData: they hold NaN or infinity.
    """
    moments = Moments()
    moments.add_all(partial(_plain, make) for make in samples)
    if not np.isfinite(moments.target_variance).all() or not np.isfinite(moments.mean).all():
        raise BadData(
            f"{layer.op} {layer.node!r} meets NaN or infinity on the calibration data",
            why="no statistics can be taken of that",
            fix="check the data and its --preprocess with: intaglio evaluate MODEL --data SOURCE",
        )
    return moments


def moments_of_patches(layer: Layer, cache: ActivationCache, positions: int) -> Moments:
    """Of the patches alone that reach a layer."""
    moments = Moments()
    moments.add_all(
        partial(_patches, layer, batch[layer.x], places) for batch, places in placed(layer, cache, positions)
    )
    return moments


def placed(layer: Layer, cache: ActivationCache, positions: int, *more: str) -> Iterator[tuple[Batch, Ints]]:
    """What a layer reads and ``more`` tensors, batch by batch, with the positions to look at."""
    for batch, keys in zip(cache.batches([layer.x, *more]), cache.keys, strict=True):
        for places in _pieces(layer, spread_places(layer, batch[layer.x], positions, keys)):
            yield batch, places


def _patches(layer: Layer, x: Floats, places: Ints) -> tuple[Floats, None]:
    return patches(layer, x, places), None


def _plain(make: Callable[[], Sample]) -> tuple[Floats, Floats]:
    """A sample's patches and targets, for sums."""
    sample = make()
    return sample.patches, sample.target
