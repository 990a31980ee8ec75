"""Moments gathered piece by piece are those of the whole, however the rows are cut and in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.passes.calibration.moments import Moments

Pair = tuple[np.ndarray, np.ndarray]
NAMES = ["mean", "covariance", "second_moment", "cross", "target_mean", "target_variance"]
EXACT, SINGLE = 1e-12, 2e-5
"""Differences allowed for rows in double and in single precision, relative to the deviations of what is multiplied."""


def drawn(seed: int, groups: int, rows: int, columns: int, outputs: int, mean: float, dtype: str) -> Pair:
    """Correlated rows about means of any size, and targets that depend on them."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((groups, rows, columns)) @ rng.standard_normal((groups, columns, columns))
    t = u @ rng.standard_normal((groups, columns, outputs)) + rng.standard_normal((groups, rows, outputs))
    means = mean * rng.uniform(-1, 1, (2, groups, 1, max(columns, outputs)))
    return (u + means[0, :, :, :columns]).astype(dtype), (t + means[1, :, :, :outputs]).astype(dtype)


def gathered(batches: Sequence[Pair], moments: Moments | None = None) -> Moments:
    moments = moments or Moments()
    for u, t in batches:
        moments.add(u, t)
    return moments


def cut(pair: Pair, at: Sequence[int]) -> list[Pair]:
    pieces = [np.split(values, at, axis=1) for values in pair]
    return [(u, t) for u, t in zip(*pieces, strict=True) if u.shape[1]]


def truth(pair: Pair) -> dict[str, np.ndarray]:
    u, t = (values.astype(np.float64) for values in pair)
    mean, wanted = u.mean(axis=1), t.mean(axis=1)
    du, dt = u - mean[:, None], t - wanted[:, None]
    turned = du.transpose(0, 2, 1)
    return {
        "mean": mean,
        "covariance": turned @ du / u.shape[1],
        "second_moment": u.transpose(0, 2, 1) @ u / u.shape[1],
        "cross": dt.transpose(0, 2, 1) @ du / u.shape[1],
        "target_mean": wanted,
        "target_variance": np.square(dt).mean(axis=1),
    }


def assert_true(moments: Moments, pair: Pair, tolerance: float, names: Sequence[str] = NAMES) -> None:
    expected = truth(pair)
    u = expected["covariance"].diagonal(axis1=1, axis2=2).max() ** 0.5
    t = expected["target_variance"].max() ** 0.5
    means = np.abs(expected["mean"]).max(), np.abs(expected["target_mean"]).max()
    scales = {"mean": u, "covariance": u * u, "cross": u * t, "target_mean": t, "target_variance": t * t}
    scales["second_moment"] = (u + means[0]) ** 2
    for name in names:
        scale = scales[name] + 1e-7 * max(means)  # a mean is no more exact than its own last digits
        np.testing.assert_allclose(getattr(moments, name), expected[name], rtol=0, atol=tolerance * scale, err_msg=name)
    assert moments.count == pair[0].shape[1]


SIZES = st.tuples(st.integers(0, 999), st.integers(1, 3), st.integers(1, 60), st.integers(1, 6), st.integers(1, 4))


@settings(max_examples=50, deadline=None)
@given(SIZES, st.sampled_from([0.0, 1.0, 1000.0]), st.lists(st.integers(0, 60), max_size=5).map(sorted))
def test_pieces_give_what_numpy_says_of_the_whole(
    sizes: tuple[int, int, int, int, int], mean: float, at: list[int]
) -> None:
    pair = drawn(*sizes, mean, "float64")
    assert_true(gathered(cut(pair, at)), pair, EXACT * max(1.0, mean))


@settings(max_examples=50, deadline=None)
@given(
    SIZES, st.sampled_from([0.0, 1.0, 100.0]), st.lists(st.integers(0, 60), max_size=5).map(sorted), st.integers(0, 99)
)
def test_neither_cut_nor_order_matters_in_single_precision(
    sizes: tuple[int, int, int, int, int], mean: float, at: list[int], seed: int
) -> None:
    pair = drawn(*sizes, mean, "float32")
    order = np.random.default_rng(seed).permutation(pair[0].shape[1])
    for rows in (slice(None), order):
        assert_true(gathered(cut((pair[0][:, rows], pair[1][:, rows]), at)), pair, SINGLE)


@pytest.mark.parametrize("mean", [1e2, 1e4])
@pytest.mark.parametrize("batch", [7, 500, 20000])
def test_large_means_cost_no_digits_of_the_covariance(mean: float, batch: int) -> None:
    pair = drawn(1, 1, 20000, 5, 3, mean, "float32")
    assert_true(gathered(cut(pair, range(batch, 20000, batch))), pair, SINGLE)


def test_rows_sorted_by_size_give_what_shuffled_rows_give() -> None:
    """The first batch is shifted by its own mean, far from that of all."""
    pair = drawn(2, 2, 4000, 6, 3, 10.0, "float32")
    order = np.argsort(pair[0][0, :, 0])
    ordered = (pair[0][:, order], pair[1][:, order])
    assert_true(gathered(cut(ordered, range(100, 4000, 100))), pair, SINGLE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_column_has_no_variance(dtype: str) -> None:
    u, t = drawn(3, 1, 300, 4, 2, 1.0, dtype)
    u[:, :, 1], t[:, :, 1] = 12345.678, -98765.4
    moments = gathered(cut((u, t), [100, 150]))
    assert np.abs(moments.covariance[0, 1]).max() < 1e-4
    assert np.abs(moments.cross[0, 1]).max() < 1e-4
    assert abs(moments.target_variance[0, 1]) < 1e-4


@settings(max_examples=25, deadline=None)
@given(SIZES, st.lists(st.integers(0, 60), max_size=4).map(sorted))
def test_other_targets_for_the_same_rows_are_as_if_they_had_been_the_first(
    sizes: tuple[int, int, int, int, int], at: list[int]
) -> None:
    u, t = drawn(*sizes, 3.0, "float64")
    new = np.maximum(t[:, :, ::-1], 0.5)
    first = gathered(cut((u, t), at))
    again = gathered(cut((u, new), at), first.other_targets())
    assert_true(again, (u, new), 1e-11)
    assert_true(first, (u, t), 1e-11)  # which stay as they were
    fresh = gathered(cut((u, new), at))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(again, name), getattr(fresh, name), err_msg=name)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.lists(st.integers(0, 60), max_size=4).map(sorted), st.integers(0, 999))
def test_some_columns_are_as_if_the_others_had_never_been_there(
    sizes: tuple[int, int, int, int, int], at: list[int], seed: int
) -> None:
    u, t = drawn(sizes[0], 1, *sizes[2:], 3.0, "float64")
    kept: np.ndarray = np.random.default_rng(seed).choice([False, True], u.shape[2], p=[0.4, 0.6])
    kept[seed % len(kept)] = True
    some = gathered(cut((u, t), at)).only(kept)
    assert_true(some, (u[:, :, kept], t), 1e-11)
    other = some.other_targets()
    for u_part, t_part in cut((u, -t), at):
        other.add(u_part[:, :, kept], t_part)
    assert_true(other, (u[:, :, kept], -t), 1e-11)


def test_what_is_cut_out_is_independent_of_where_it_came_from() -> None:
    u, t = drawn(4, 1, 40, 5, 2, 1.0, "float64")
    moments = gathered([(u, t)])
    part = moments.only(np.array([True, False, True, True, False]))
    before = part.covariance
    moments.add(u + 1, t)
    np.testing.assert_array_equal(part.covariance, before)


def test_rows_alone_need_no_targets() -> None:
    u, _ = drawn(5, 2, 30, 4, 1, 2.0, "float64")
    moments = Moments()
    for piece in np.array_split(u, 3, axis=1):
        moments.add(piece)
    assert_true(moments, (u, u[:, :, :1]), 1e-11, ["mean", "covariance", "second_moment"])


def test_rows_given_are_left_as_they_were() -> None:
    u, t = drawn(6, 1, 30, 4, 2, 2.0, "float64")
    copies = u.copy(), t.copy()
    gathered(cut((u, t), [10]))
    np.testing.assert_array_equal(u, copies[0])
    np.testing.assert_array_equal(t, copies[1])


@pytest.mark.parametrize("workers", [1, 3])
def test_pieces_made_by_threads_give_the_same_bits_as_pieces_given_in_turn(workers: int) -> None:
    batches = cut(drawn(7, 2, 900, 6, 3, 5.0, "float32"), range(40, 900, 40))
    threaded = Moments()
    threaded.add_all((partial(_pair, b) for b in batches), workers)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(threaded, name), getattr(gathered(batches), name), err_msg=name)
    assert threaded.count == 900


def test_pieces_are_not_asked_for_long_before_they_are_added() -> None:
    """Each one may be large."""
    asked = finished = most = 0

    def piece(k: int) -> Pair:
        nonlocal finished
        pair = drawn(k, 1, 10, 3, 2, 0.0, "float32")
        finished += 1
        return pair

    def pieces() -> Iterator[Callable[[], Pair]]:
        nonlocal asked, most
        for k in range(40):
            asked += 1
            most = max(most, asked - finished)
            yield partial(piece, k)

    moments = Moments()
    moments.add_all(pieces(), 2)
    assert moments.count == 400
    assert most <= 5


def test_what_goes_wrong_in_a_thread_is_heard_of() -> None:
    def broken() -> Pair:
        raise ZeroDivisionError

    batches = cut(drawn(8, 1, 40, 3, 2, 0.0, "float32"), [10, 20, 30])
    with pytest.raises(ZeroDivisionError):
        Moments().add_all(iter([partial(_pair, batches[0]), partial(_pair, batches[1]), broken]), 2)


def _pair(pair: Pair) -> Pair:
    u, t = pair
    return u.copy(), t.copy()
