"""The matrix product of signs is the reference, bit for bit, on every instruction set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels import reference

from .calls import Gemm
from .signs import EVERY_ISA, LENGTHS, OUTPUTS, bits, scales


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal to the last bit; any NaN is one."""
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))


def assert_equals_reference(
    rng: np.random.Generator, isa: str, planes: int, shape: tuple[int, ...], outputs: int
) -> None:
    """All three results, with as many threads as planes."""
    length = shape[-1]
    x, weights = bits(rng, *shape), bits(rng, planes, outputs, length)
    product = Gemm(weights, length, isa=isa)
    dot = reference.gemm(x, weights, length)
    assert_same(product.dot(x, threads=planes), dot)
    scale, bias = scales(rng, outputs), rng.standard_normal(outputs).astype(np.float32)
    with np.errstate(all="ignore"):
        assert_same(product.affine(x, scale, bias, threads=planes), reference.affine(dot, scale, bias))
    tie = dot.reshape(-1, outputs)[0].astype(np.int32)  # at the threshold itself the bit is 0
    assert_same(product.below(x, tie, threads=planes), reference.below(dot, tie))


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_products_of_every_length_equal_the_reference(isa: str, length: int, planes: int) -> None:
    rng = np.random.default_rng(length)
    for outputs in OUTPUTS:
        assert_equals_reference(rng, isa, planes, (int(rng.integers(1, 40)), length), outputs)


@given(
    isa=st.sampled_from(EVERY_ISA),
    planes=st.integers(1, 2),
    lead=st.lists(st.integers(1, 9), max_size=2),
    length=st.integers(1, 3000),
    outputs=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_products_of_any_shape_equal_the_reference(
    isa: str, planes: int, lead: list[int], length: int, outputs: int, seed: int
) -> None:
    assert_equals_reference(np.random.default_rng(seed), isa, planes, (*lead, length), outputs)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_counts_do_not_overflow_on_long_rows(isa: str) -> None:
    length = 64 * 31 * 8 + 5
    opposite = np.full((1, 1, length // 8 + 1), 255, np.uint8)
    opposite[..., -1] = 2 ** (length % 8) - 1
    product = Gemm(opposite, length, isa=isa)
    assert product.dot(np.zeros((3, length // 8 + 1), np.uint8)).tolist() == [[-length]] * 3
    assert product.dot(opposite[0]).tolist() == [[length]]


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_bits_past_the_end_of_a_row_change_nothing(isa: str) -> None:
    rng = np.random.default_rng(0)
    x, weights = bits(rng, 5, 37), bits(rng, 2, 9, 37)
    dirty_x, dirty = x.copy(), weights.copy()
    dirty_x[..., -1] |= 0xE0
    dirty[..., -1] |= 0xE0
    for planes in (1, 2):
        clean = Gemm(weights[:planes], 37, isa=isa).dot(x)
        assert_same(Gemm(dirty[:planes], 37, isa=isa).dot(dirty_x), clean)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_no_rows_make_no_results(isa: str) -> None:
    product = Gemm(np.zeros((1, 3, 2), np.uint8), 9, isa=isa)
    assert product.dot(np.zeros((0, 2), np.uint8)).shape == (0, 3)


def test_the_number_of_threads_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    x, weights = bits(rng, 2000, 200), bits(rng, 1, 150, 200)
    product, tie = Gemm(weights, 200), np.zeros(150, np.int32)
    dot = reference.gemm(x, weights, 200)
    for threads in (1, 2, 3, 7, 2**63 + 1):
        assert_same(product.dot(x, threads=threads), dot)
        assert_same(product.below(x, tie, threads=threads), reference.below(dot, tie))


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_one_product_serves_many_threads_at_once(isa: str) -> None:
    rng = np.random.default_rng(2)
    weights = bits(rng, 1, 50, 301)
    product = Gemm(weights, 301, isa=isa)
    inputs = [bits(rng, rows, 301) for rows in range(1, 60)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: product.dot(x, threads=2), inputs))
    for x, result in zip(inputs, results, strict=True):
        assert_same(result, reference.gemm(x, weights, 301))


def test_results_go_where_they_are_told() -> None:
    rng = np.random.default_rng(3)
    x, weights = bits(rng, 4, 20), bits(rng, 1, 6, 20)
    product, out = Gemm(weights, 20), np.empty((4, 6), np.int32)
    assert product.dot(x, out=out) is out
    assert_same(out, reference.gemm(x, weights, 20))
    with pytest.raises(ValueError, match="the result is int32"):
        product.dot(x, out=out[:, ::-1])
