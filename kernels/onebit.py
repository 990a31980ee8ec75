"""Products of 1-bit weights with real activations, in numpy: the definition that the library must equal bit for bit.

``y[n] = sum over blocks g, then planes p, of scale[p, n, g] * inner(p, n, g)``, one float32 multiplication and one
addition each, where ``inner`` sums sign * x over the channels of the block. With float activations it is
``total - 2 * negative``: two float32 sums, of all x and of those under a set bit, one by one in order of the channels.
With int8 activations each row of x becomes ``q = round(x * (127 / r))``, r its largest magnitude, ``inner`` is an exact
integer, and the result is multiplied by ``r / 127`` last. Every variant gives the same bits.
"""

from __future__ import annotations

import numpy as np

LEVELS = np.float32(127)


def reference(
    x: np.ndarray, planes: np.ndarray, scale: np.ndarray, channels: int, block: int, *, int8: bool = False
) -> np.ndarray:
    """What the library must equal bit for bit."""
    rows = np.asarray(x, np.float32).reshape(-1, channels)
    negative = np.unpackbits(planes, axis=-1, count=channels, bitorder="little").astype(bool)
    levels, step = quantize_rows(rows) if int8 else (rows, None)
    y = np.zeros((len(rows), planes.shape[1]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for g, start in enumerate(range(0, channels, block)):
            cut = slice(start, start + block)
            for p, plane in enumerate(negative):
                inner = (_exact if int8 else _in_order)(levels[:, cut], plane[:, cut])
                y += scale[p, :, g].astype(np.float32) * inner
        if step is not None:
            y *= step
    return y.reshape(*x.shape[:-1], planes.shape[1])


def quantize_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels within -127 and 127, and the step of each row. Shapes: rows and levels (M, K), steps (M, 1)."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        largest = np.fmax.reduce(np.abs(rows), axis=1, keepdims=True, initial=np.float32(0))
        factor = np.where(largest == 0, np.float32(0), LEVELS / largest)
        levels = np.rint(rows * factor)
    return np.nan_to_num(np.clip(levels, -LEVELS, LEVELS), nan=0.0), largest / LEVELS


def _in_order(x: np.ndarray, negative: np.ndarray) -> np.ndarray:
    total = _running(x)[:, None]
    under = _running(np.where(negative[None], x[:, None], np.float32(0)))
    return total - np.float32(2) * under


def _running(x: np.ndarray) -> np.ndarray:
    """Float32 sum of the last axis, one by one from 0."""
    from_zero = np.concatenate([np.zeros((*x.shape[:-1], 1), np.float32), x], axis=-1)
    return np.add.accumulate(from_zero, axis=-1, dtype=np.float32)[..., -1]


def _exact(levels: np.ndarray, negative: np.ndarray) -> np.ndarray:
    signs = 1 - 2 * negative.astype(np.int64)
    return (levels.astype(np.int64) @ signs.T).astype(np.float32)
