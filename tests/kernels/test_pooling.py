"""Maximum pooling of signs is the reference, and the reference is the maximum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels import reference
from intaglio.kernels.packing import unpack
from intaglio.kernels.window import Window

from .calls import max_pool
from .signs import bits


def maximum(x: np.ndarray, channels: int, window: Window) -> np.ndarray:
    """The largest sign of each window, one window at a time. Shapes: result (N, H', W', channels)."""
    image = unpack(x, channels)
    top, left = window.pads[:2]
    out = np.empty((len(x), *window.out(*x.shape[1:3]), channels), np.float32)
    for i, j in np.ndindex(*out.shape[1:3]):
        y, z = i * window.strides[0] - top, j * window.strides[1] - left
        inside = image[:, max(y, 0) : y + window.kernel[0], max(z, 0) : z + window.kernel[1]]
        out[:, i, j] = inside.max(axis=(1, 2))
    return out


@given(
    window=st.builds(
        Window,
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(*[st.integers(0, 4)] * 4),
    ),
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    channels=st.integers(1, 140),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_pooling_of_any_shape_is_the_maximum(
    window: Window, size: tuple[int, int, int], channels: int, threads: int, seed: int
) -> None:
    x = bits(np.random.default_rng(seed), *size, channels)
    try:
        wanted = reference.max_pool(x, channels, window)
    except ValueError:
        with pytest.raises(ValueError, match=r"padding|does not fit"):
            max_pool(x, channels, window, threads=threads)
        return
    np.testing.assert_array_equal(max_pool(x, channels, window, threads=threads), wanted)
    np.testing.assert_array_equal(unpack(wanted, channels), maximum(x, channels, window))


def test_a_window_in_the_padding_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="wholly in the padding"):
        max_pool(np.zeros((1, 4, 4, 1), np.uint8), 8, Window((2, 2), (2, 2), (2, 0, 0, 0)))
