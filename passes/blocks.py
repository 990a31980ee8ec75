"""The largest of each block of values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def highest_in_blocks(scores: NDArray[np.floating], n: int, m: int) -> NDArray[np.bool_]:
    """Of each ``m`` scores in a row the ``n`` highest, of equals the first; of a shorter block at the end its share,
    rounded up.

    Shapes: (size,) -> (size,).
    """
    kept = np.zeros(scores.shape, bool)
    whole = scores.size - scores.size % m
    for start, stop, width, stay in ((0, whole, m, n), (whole, scores.size, scores.size - whole, None)):
        if start < stop:
            blocks = scores[start:stop].reshape(-1, width)
            order = np.argsort(-blocks, axis=1, kind="stable")
            count = -(-n * width // m) if stay is None else stay
            np.put_along_axis(kept[start:stop].reshape(-1, width), order[:, :count], True, axis=1)
    return kept
