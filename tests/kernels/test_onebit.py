"""Products of 1-bit weights with real activations: every variant equals the numpy reference bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intaglio.kernels.onebit import quantize_rows, reference
from intaglio.kernels.packing import pack, unpack

from .calls import OneBit
from .signs import EVERY_ISA

ODD_SIZES = st.sampled_from([1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 200, 1000, 1025])


def weights(rng: np.random.Generator, planes: int, outputs: int, channels: int, block: int) -> tuple[Any, Any]:
    bits = pack(rng.standard_normal((planes, outputs, channels)))
    scale = rng.standard_normal((planes, outputs, -(-channels // block))).astype(np.float32)
    scale[rng.random(scale.shape) < 0.1] = 0
    return bits, scale


def rows(rng: np.random.Generator, count: int, channels: int) -> np.ndarray:
    """Numbers of all magnitudes; some rows and numbers are zero, of either sign."""
    x = rng.standard_normal((count, channels)) * 10.0 ** rng.integers(-3, 4, (count, 1))
    x[rng.random(x.shape) < 0.1] = -0.0
    x[rng.random(count) < 0.2] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("isa", EVERY_ISA)
@given(
    planes=st.integers(1, 3),
    outputs=ODD_SIZES,
    channels=ODD_SIZES,
    block=st.integers(1, 1100),
    count=st.sampled_from([0, 1, 2, 3, 5, 17, 33]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@example(planes=1, outputs=128, channels=128, block=32, count=2, threads=2, seed=0)
@example(planes=2, outputs=160, channels=1025, block=1024, count=1, threads=1, seed=1)
@settings(max_examples=25, deadline=None)
def test_variant_equals_the_reference(
    isa: str,
    int8: bool,
    planes: int,
    outputs: int,
    channels: int,
    block: int,
    count: int,
    threads: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    outputs, count = (outputs, count) if outputs * count * channels * planes < 3e6 else (outputs, 1)
    bits, scale = weights(rng, planes, outputs, channels, block)
    x = rows(rng, count, channels)
    wanted = reference(x, bits, scale, channels, block, int8=int8)
    got = OneBit(bits, scale, channels, block, isa=isa)(x, int8=int8, threads=threads)
    assert got.tobytes() == wanted.tobytes()


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 200), st.integers(1, 250), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_reference_is_the_product_with_the_weights_it_stands_for(
    planes: int, outputs: int, channels: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    bits, scale = weights(rng, planes, outputs, channels, block)
    x = rng.standard_normal((3, channels)).astype(np.float32)
    each = np.repeat(scale.astype(np.float64), block, axis=-1)[..., :channels]
    dense = (unpack(bits, channels) * each).sum(axis=0)
    room = 1e-6 * channels * np.abs(x).max() * np.abs(each).sum(axis=0).max()
    np.testing.assert_allclose(reference(x, bits, scale, channels, block), x @ dense.T, atol=room)
    levels, step = quantize_rows(x)
    assert np.abs(levels * step - x).max() <= 0.5001 * step.max()
    wanted = (levels.astype(np.float64) @ dense.T) * step
    np.testing.assert_allclose(reference(x, bits, scale, channels, block, int8=True), wanted, atol=room)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_half_a_level_rounds_to_even_and_what_is_no_number_counts_as_zero(isa: str) -> None:
    row = np.zeros(40, np.float32)
    row[:8] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127]
    strange = row.copy()
    strange[3:7] = [np.nan, np.inf, -np.inf, 3]
    tiny = np.full(40, 1e-40, np.float32)
    x = np.stack([row, strange, tiny])
    bits, scale = np.zeros((1, 1, 5), np.uint8), np.ones((1, 1, 1), np.float32)
    weights = OneBit(bits, scale, 40, 40, isa=isa)
    assert weights(x[:1], int8=True).item() == 127 + 0 + 2 + 2 - 0 - 2 - 2 - 127
    np.testing.assert_array_equal(weights(x, int8=True), reference(x, bits, scale, 40, 40, int8=True))


@pytest.mark.parametrize(
    ("planes", "scale", "channels", "block"),
    [
        (np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 1), np.float32), 17, 17),
        (np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 1), np.float32), 16, 8),
        (np.zeros((1, 2, 2), np.uint8), np.ones((2, 2, 1), np.float32), 16, 16),
        (np.zeros((1, 2, 2), np.int8), np.ones((1, 2, 1), np.float32), 16, 16),
        (np.zeros((2, 2), np.uint8), np.ones((2, 1), np.float32), 16, 16),
        (np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 1), np.float32), 16, 0),
    ],
)
def test_shapes_that_do_not_fit_are_refused(planes: Any, scale: Any, channels: int, block: int) -> None:
    with pytest.raises(ValueError, match="not"):
        OneBit(planes, scale, channels, block)


def test_rows_of_another_length_are_refused() -> None:
    weights = OneBit(np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 1), np.float32), 16, 16)
    with pytest.raises(ValueError, match="rows have 16 numbers"):
        weights(np.zeros((2, 15), np.float32))
