"""Packing is the reference, bit for bit, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels import reference
from intaglio.kernels.packing import pack, unpack

from .calls import bit_pack
from .signs import EVERY_ISA, LENGTHS

ODD = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3e38, -3e38], np.float32)


def numbers(rng: np.random.Generator, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers; of floats, a third are odd ones."""
    if dtype is np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    usual = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.3, rng.choice(ODD, shape), usual).astype(np.float32)


def thresholds(rng: np.random.Generator, x: np.ndarray, count: int) -> np.ndarray:
    """Some that numbers are equal to, some odd ones."""
    equal = rng.choice(x.reshape(-1), count).astype(np.float32)
    return np.where(rng.random(count) < 0.2, rng.choice(ODD, count), equal).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("channels", LENGTHS)
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_packing_of_every_depth_equals_the_reference(isa: str, channels: int, dtype: type) -> None:
    rng = np.random.default_rng(channels)
    for pixels in (*LENGTHS, 15, 16, 17, 300):
        planes, rows = numbers(rng, dtype, (2, channels, pixels)), numbers(rng, dtype, (pixels, channels))
        for count in (1, channels):
            limits = thresholds(rng, rows, count)
            got = bit_pack(planes, limits, (0, 2, 1), isa=isa, threads=3)
            np.testing.assert_array_equal(got, reference.bit_pack(planes, limits, (0, 2, 1)))
            got = bit_pack(rows, limits, (0, 1), isa=isa, threads=3)
            np.testing.assert_array_equal(got, reference.bit_pack(rows, limits, (0, 1)))


@given(
    isa=st.sampled_from(EVERY_ISA),
    dtype=st.sampled_from([np.float32, np.int8]),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_packing_of_any_shape_and_order_equals_the_reference(
    isa: str, dtype: type, shape: list[int], data: st.DataObject
) -> None:
    perm = data.draw(st.permutations(range(len(shape))))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = numbers(rng, dtype, tuple(shape))
    limits = rng.standard_normal(1 if not x.size or rng.random() < 0.5 else shape[perm[-1]]).astype(np.float32)
    np.testing.assert_array_equal(bit_pack(x, limits, perm, isa=isa), reference.bit_pack(x, limits, perm))


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_what_is_not_below_zero_is_plus_one(isa: str) -> None:
    got = bit_pack(ODD[None], np.zeros(1, np.float32), (0, 1), isa=isa)
    np.testing.assert_array_equal(got, pack(ODD[None]))
    assert unpack(got, len(ODD)).tolist() == [[1, 1, 1, 1, 1, -1, 1, -1, 1, -1]]


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_nothing_is_below_a_threshold_that_is_no_number(isa: str) -> None:
    assert not bit_pack(ODD[None], np.array([np.nan], np.float32), (0, 1), isa=isa).any()
