"""Where multiplying by bits is faster than multiplying by the floats that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

_MOST_ROWS = 2
_LEAST_WEIGHTS = 1 << 20
_LEAST_ROUNDED = 1 << 19
"""A product with few rows waits for its weights to come from memory, and bits come sooner; weights that lie in a near
cache as floats, or that many rows share, are better made floats once, when the file is opened. Two planes against a
float product of ONNX Runtime 1.31, one thread of an EPYC with AVX-512, square matrices: 768 wide, 1.0 times as fast for
one row and 0.7 for four; 2048 wide, 3.5, 7, 4 and 1.0 times as fast for one, two, four and eight rows. With rows rounded
to 8 bits: 256 wide 0.5 to 1.1, 768 wide 1.3 to 2.3, 2048 wide 1.4 to 16 times as fast, for 1 to 256 rows."""


def pays(read: Sequence[int] | None, weights: int, *, rounded: bool = False) -> bool:
    """Whether multiplying by bits is worth it for a tensor of this shape, None if unknown, and so many weights.

    ``rounded`` is the product that makes each row int8 first.
    """
    if rounded:
        return weights >= _LEAST_ROUNDED
    return read is not None and prod(read[:-1]) <= _MOST_ROWS and weights >= _LEAST_WEIGHTS
