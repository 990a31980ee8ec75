"""Statistics gathered piece by piece are those of the whole, however it is cut and in whatever order."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intaglio.graph.errors import BadData, BadModel
from intaglio.passes.calibration.statistics import Histogram, NotFinite, Range, Statistic

FLOATS = st.floats(-(2.0**40), 2.0**40, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149)])
TENSORS = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=FLOATS)
)
AXES = st.sampled_from([None, 1, 2, -1])
MAKERS: dict[str, Callable[[], Statistic]] = {
    "range": lambda: Range(axis=1),
    "histogram": Histogram,
}


def pieces(values: np.ndarray, seed: int) -> list[np.ndarray]:
    """The samples shuffled and cut at random."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(values) + 1, rng.integers(0, 5)))
    return np.split(values[rng.permutation(len(values))], cuts)


def filled(statistic: Any, parts: list[np.ndarray]) -> Any:
    for part in parts:
        statistic.add(part)
    return statistic


def edges(found: Histogram) -> np.ndarray:
    return (np.arange(found.bins + 1) - found.bins // 2) * found.width


def other_axes(values: np.ndarray, axis: int | None) -> tuple[int, ...]:
    return tuple(a for a in range(values.ndim) if axis is None or a != axis % values.ndim)


@given(values=TENSORS, seed=st.integers(0, 99), axis=AXES)
def test_ranges_are_exactly_those_of_the_whole(values: np.ndarray, seed: int, axis: int | None) -> None:
    found = filled(Range(axis), pieces(values, seed))
    np.testing.assert_array_equal(found.minimum, values.min(axis=other_axes(values, axis)))
    np.testing.assert_array_equal(found.maximum, values.max(axis=other_axes(values, axis)))


@given(values=TENSORS, seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), bins=st.sampled_from([2, 8, 2048]))
def test_counts_do_not_depend_on_cut_or_order_at_all(values: np.ndarray, seeds: tuple[int, int], bins: int) -> None:
    one, other = (filled(Histogram(bins), pieces(values, seed)) for seed in seeds)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.limit == other.limit
    if values.any():
        assert one.limit / 2 <= np.abs(values).max() < one.limit


@given(values=TENSORS, seed=st.integers(0, 99), bins=st.sampled_from([2, 8, 2048]))
def test_counts_are_those_of_the_final_bins(values: np.ndarray, seed: int, bins: int) -> None:
    found = filled(Histogram(bins), pieces(values, seed))
    np.testing.assert_array_equal(found.counts, np.histogram(values, edges(found))[0])
    assert found.count == values.size == found.magnitudes.sum()
    assert edges(found)[-1] == -edges(found)[0] == found.limit


@given(values=TENSORS, seed=st.integers(0, 99), bins=st.sampled_from([2, 16, 2048]), sixteenths=st.integers(0, 16))
def test_quantiles_are_right_to_one_bin(values: np.ndarray, seed: int, bins: int, sixteenths: int) -> None:
    found = filled(Histogram(bins), pieces(values, seed))
    share = sixteenths / 16
    for exact, magnitude in ((values, False), (np.abs(values), True)):
        expected = float(np.quantile(exact.astype(np.float64), share, method="inverted_cdf"))
        quantile = found.quantile(share, magnitude=magnitude)
        assert abs(quantile - expected) <= found.width
        assert quantile <= exact.max()
        if not magnitude or values.min() >= 0 or values.max() <= 0:  # else the smallest lies somewhere in a bin
            assert exact.min() <= quantile
            assert share or quantile == expected
        assert share < 1 or quantile == expected


def test_the_smallest_absolute_value_of_both_signs_is_right_to_one_bin() -> None:
    values = np.array([-3.0, 5.0, 7.0], np.float32)
    found = filled(Histogram(2048), [values])
    assert abs(found.quantile(0, magnitude=True) - 3.0) <= found.width


@pytest.mark.parametrize("name", MAKERS)
def test_a_large_tensor_is_worked_through_in_little_memory(name: str) -> None:
    values = np.random.default_rng(0).standard_normal((8, 64, 128, 128)).astype(np.float32)
    statistic = MAKERS[name]()
    tracemalloc.start()
    statistic.add(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes / 4


@pytest.mark.parametrize("shape", [(3, 700_000), (700_000, 3), (2, 3, 200_000), (1, 300, 1000)])
def test_blocks_cover_tensors_of_any_proportion_once(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    for axis in range(len(shape)):
        found = filled(Range(axis), [values])
        np.testing.assert_array_equal(found.minimum, values.min(axis=other_axes(values, axis)))
        np.testing.assert_array_equal(found.maximum, values.max(axis=other_axes(values, axis)))
    counts = filled(Histogram(), [values])
    np.testing.assert_array_equal(counts.counts, np.histogram(values, edges(counts))[0])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_counted(name: str, wrong: float) -> None:
    values = np.ones((4, 3, 5), np.float32)
    values[1, 2, 3] = wrong
    with pytest.raises(NotFinite, match="1 of its 60 values"):
        MAKERS[name]().add(values)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_no_number_is_refused(name: str) -> None:
    for values in (np.full((2, 3), "a", dtype=object), np.zeros((2, 3), complex)):
        with pytest.raises(BadModel, match="no real numbers"):
            MAKERS[name]().add(values)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.float16, np.float64, ml_dtypes.bfloat16])
def test_every_kind_of_number_is_taken_and_left_as_it_was(dtype: Any) -> None:
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    before = values.copy()
    assert filled(Range(), [values]).maximum == 1
    assert filled(Histogram(), [values]).counts.sum() == 24
    np.testing.assert_array_equal(values, before)


def test_a_number_of_channels_that_changes_is_refused() -> None:
    statistic = Range(axis=1)
    statistic.add(np.ones((2, 1, 4)))
    with pytest.raises(BadModel, match="from 1 to 3 channels"):
        statistic.add(np.ones((2, 3, 4)))
    with pytest.raises(BadModel, match="no axis 1"):
        statistic.add(np.ones(2))


def test_nothing_has_no_statistics() -> None:
    for statistic in (Range(), Histogram()):
        statistic.add(np.zeros((0, 3)))
    for read in (lambda: Range().minimum, lambda: Histogram().quantile(0.5)):
        with pytest.raises(BadData, match="no values"):
            read()


def test_the_number_of_bins_is_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        Histogram(100)


def test_of_many_values_some_are_counted_and_none_is_missed_at_the_ends() -> None:
    """Which ones are counted hangs on their order alone, not on the pieces they come in."""
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    whole, cut = Histogram(64, every=7), Histogram(64, every=7)
    whole.add(values)
    for piece in np.array_split(values, 23):
        cut.add(piece)
    assert (whole.minimum, whole.maximum) == (values.min(), values.max())
    assert (whole.counts == cut.counts).all()
    assert whole.count == len(values[::7])
