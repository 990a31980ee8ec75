"""What each kernel computes, in numpy: the definition that the library must equal bit for bit.

Bits are uint8, least significant bit first, one for a negative number: see :mod:`.packing`. Weights (P, O, bytes) are
binary with one plane; with two they are ternary, each weight the mean of two signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .packing import packed_length, unpack
from .window import ConvWindow, Window


def bit_pack(x: np.ndarray, threshold: np.ndarray, perm: Sequence[int]) -> np.ndarray:
    """Bits of ``x`` transposed by ``perm``: one where a number lies below its threshold.

    Shapes: threshold (1,) or (C,), C the last axis after ``perm``; result (..., ceil(C / 8)).
    """
    below = np.transpose(x, perm).astype(np.float32, copy=False) < threshold
    return np.packbits(below, axis=-1, bitorder="little")


def weights_of(planes: np.ndarray, length: int) -> np.ndarray:
    """The weights that ``planes`` stand for: -1 and +1, with two planes 0 as well. Shapes: result (O, length), int32."""
    signs = np.asarray(unpack(planes, length), np.int32)
    return signs.sum(axis=0) // len(planes)


def gemm(bits: np.ndarray, planes: np.ndarray, length: int) -> np.ndarray:
    """Dot products of rows of signs with weights. Shapes: bits (..., ceil(length / 8)); result (..., O), int32."""
    return _product(unpack(bits, length), weights_of(planes, length))


def _product(signs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact: float64 holds every integer that a sum of signs reaches."""
    return np.asarray(signs.astype(np.float64) @ weights.T.astype(np.float64), np.int32)


def conv(bits: np.ndarray, planes: np.ndarray, channels: int, window: ConvWindow) -> np.ndarray:
    """Dot products of windows of signs with filters, whose bits lie in the order height, width, channel.

    Shapes: bits (N, H, W, ceil(channels / 8)); result (N, out height, out width, O), int32.
    """
    columns = _windows(unpack(bits, channels), window, window.pad_value)
    group, length = window.group, columns.shape[3] * channels // window.group
    weights = weights_of(planes, length)
    each = len(weights) // group
    split = columns.reshape(*columns.shape[:4], group, channels // group)
    products = [
        _product(split[..., g, :].reshape(*split.shape[:3], length), weights[g * each : (g + 1) * each])
        for g in range(group)
    ]
    return np.concatenate(products, axis=-1)


def _windows(image: np.ndarray, window: Window, outside: int) -> np.ndarray:
    """Every window's elements. Shapes: image (N, H, W, C); result (N, out height, out width, taps, C)."""
    out_height, out_width = window.out(*image.shape[1:3])
    top, left, bottom, right = window.pads
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=outside)
    down, across = window.strides
    return np.stack(
        [
            padded[:, y : y + (out_height - 1) * down + 1 : down, x : x + (out_width - 1) * across + 1 : across]
            for y, x in window.taps()
        ],
        axis=3,
    )


def affine(dot: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``dot * scale + bias`` along the last axis: one float32 multiplication, then one float32 addition."""
    product = dot.astype(np.float32) * np.asarray(scale, np.float32)
    return product + np.asarray(bias, np.float32)


def below(dot: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Bits along the last axis: one where ``dot`` lies below its threshold."""
    return np.packbits(dot < threshold, axis=-1, bitorder="little")


def max_pool(bits: np.ndarray, channels: int, window: Window) -> np.ndarray:
    """Largest sign of every window; padding is never the largest.

    Shapes: bits (N, H, W, ceil(channels / 8)); result (N, Ho, Wo, ceil(channels / 8)).

    Raises:
        ValueError: a window lies wholly in the padding.
    """
    if bits.shape[-1] != packed_length(channels):
        raise ValueError(f"{channels} channels take {packed_length(channels)} bytes, not {bits.shape[-1]}")
    inside = _windows(np.ones((1, *bits.shape[1:3], 1), bool), window, 0)
    if not inside.any(axis=3).all():
        raise ValueError("a pooling window lies wholly in the padding")
    return np.bitwise_and.reduce(_windows(bits, window, 255), axis=3)
