"""Signs as bits: how the packed operators store what is +1 or -1."""

from __future__ import annotations

import numpy as np


def pack(values: np.ndarray) -> np.ndarray:
    """Signs of ``values`` along the last axis as bits, one where a value is negative.

    Zero, negative zero and NaN count as +1. Element ``i`` is bit ``i % 8`` of byte ``i // 8``; a row is filled up with
    zero bits.

    Shapes: values (..., K); result uint8 (..., ceil(K / 8)).

    >>> pack(np.array([-1.0, 2.0, 0.0, -3.0]))
    array([9], dtype=uint8)
    """
    return np.packbits(np.asarray(values) < 0, axis=-1, bitorder="little")


def unpack(bits: np.ndarray, length: int) -> np.ndarray:
    """The +1 and -1 that ``bits`` stand for.

    Shapes: bits uint8 (..., ceil(length / 8)); result float32 (..., length).

    Raises:
        ValueError: the last axis is not as long as ``length`` bits need.

    >>> unpack(np.array([9], np.uint8), 4)
    array([-1.,  1.,  1., -1.], dtype=float32)
    """
    if bits.shape[-1] != packed_length(length):
        raise ValueError(f"{length} bits take {packed_length(length)} bytes, not {bits.shape[-1]}")
    ones = np.unpackbits(np.asarray(bits, np.uint8), axis=-1, count=length, bitorder="little")
    return 1 - 2 * ones.astype(np.float32)


def packed_length(length: int) -> int:
    """Bytes that so many bits take."""
    return -(-length // 8)
