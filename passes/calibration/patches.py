"""What the matrices of layers are multiplied with: patches of an activation, and what a layer makes of each."""

from __future__ import annotations

from math import prod
from zlib import crc32

import numpy as np

from ...graph.layer import Floats, Ints, Layer, Window


def patch_shape(layer: Layer, x: Floats) -> tuple[int, ...]:
    """Shape of the output for an input ``x``, without its channels: each entry is one patch."""
    if layer.window is not None:
        return len(x), *layer.window.places(x.shape[2:])
    return _without(layer.x_axis, x)


def output_shape(layer: Layer, y: Floats) -> tuple[int, ...]:
    """Shape of an output, or of any tensor like it, without its channels."""
    return _without(layer.y_axis, y)


def _without(axis: int, x: Floats) -> tuple[int, ...]:
    return x.shape[: axis % x.ndim] + x.shape[axis % x.ndim + 1 :]


def place_count(layer: Layer, x: Floats) -> int:
    """Patches that one sample (index of the first axis) gives."""
    return prod(patch_shape(layer, x)[1:])


def patches(layer: Layer, x: Floats, places: Ints) -> Floats:
    """What the matrices multiply, at some positions of each sample. Shapes: places (samples, positions) ->
    (groups, samples * positions, columns).
    """
    window = layer.window
    if window is None:
        return _at(_channels_last(x, layer.x_axis), places)[None]
    x = _wide(x)
    samples, channels = x.shape[:2]
    pixels, index = x.reshape(samples, channels, -1), places[:, :, None]
    if not window.plain:
        begins, ends = window.padding(x.shape[2:])
        padded = np.pad(x, ((0, 0), (0, 0), *zip(begins, ends, strict=True))) if any((*begins, *ends)) else x
        pixels = padded.reshape(samples, channels, -1)
        index = _index(window, x.shape[2:], padded.shape[2:])[places]
    found = _at(np.ascontiguousarray(pixels.transpose(0, 2, 1)), index.reshape(samples, -1))
    if layer.groups == 1:
        return found.reshape(1, places.size, -1)
    split = found.reshape(places.size, index.shape[2], layer.groups, -1)
    return np.ascontiguousarray(split.transpose(2, 0, 1, 3)).reshape(layer.groups, places.size, -1)


def outputs_at(layer: Layer, y: Floats, places: Ints) -> Floats:
    """Outputs (or any tensor of their shape) at the same positions. Shapes: (groups, samples * positions, outputs)."""
    if layer.window is None:
        return _at(_channels_last(y, layer.y_axis), places)[None]
    y = _wide(y)
    samples, channels = y.shape[:2]
    flat = y.reshape(samples, layer.groups, channels // layer.groups, -1)
    found = np.empty((layer.groups, *places.shape, channels // layer.groups), dtype=y.dtype)
    for k, mine in enumerate(places):
        found[:, k] = np.take(flat[k], mine, axis=2).transpose(0, 2, 1)
    return found.reshape(layer.groups, places.size, -1)


def _wide(x: Floats) -> Floats:
    return x if x.dtype == np.float64 else np.asarray(x, dtype=np.float32)


def _channels_last(x: Floats, axis: int) -> Floats:
    """Shapes: -> (samples, positions, channels)."""
    moved = np.moveaxis(x if x.ndim > 1 else x[None], axis, -1)
    return _wide(moved).reshape(len(moved), -1, moved.shape[-1])


def _index(window: Window, size: tuple[int, ...], padded: tuple[int, ...]) -> Ints:
    """Flat positions in the padded input under each place. Shapes: (places, kernel positions)."""
    out = window.places(size)
    corner = np.stack(np.unravel_index(np.arange(int(np.prod(out))), out), axis=1) * np.array(window.strides)
    taps = np.stack(np.unravel_index(np.arange(int(np.prod(window.kernel))), window.kernel), axis=1)
    at = corner[:, None, :] + taps[None] * np.array(window.dilations)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(at, -1, 0)), padded), dtype=np.int64)


def _at(rows: Floats, index: Ints) -> Floats:
    """Rows of each sample. Shapes: rows (samples, n, c), index (samples, m) -> (samples * m, c)."""
    samples, count, width = rows.shape
    flat = index + (np.arange(samples) * count)[:, None]
    return np.take(rows.reshape(-1, width), flat.reshape(-1), axis=0)


def spread_places(layer: Layer, x: Floats, wanted: int, keys: Ints) -> Ints:
    """Which of a layer's positions are looked at in each sample. Shapes: keys (samples,) -> (samples, positions).

    All of them, if so many are wanted; else a part of one random order that starts where the sample's key says: a
    sample has its positions wherever it stands in the data.
    """
    count = place_count(layer, x)
    samples = next(iter(patch_shape(layer, x)), 1)
    if len(keys) != samples:  # the first axis does not count samples here
        wanted, keys = -(-wanted * len(keys) // max(1, samples)), np.arange(samples)
    if wanted >= count:
        return np.broadcast_to(np.arange(count), (len(keys), count))
    order = np.random.default_rng(crc32(layer.node.encode())).permutation(count)
    return np.asarray(order[(keys[:, None] + np.arange(wanted)) % count])
