"""Optimal brain surgeon over blocks: each step is the one that an exhaustive search over least squares fits takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.passes.prune.obspa.elimination import Elimination, Reader, eliminate

Matrices = list[np.ndarray]


def inverse(h: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.inv(h))


class Case:
    """Some layers that read the same channels, by columns of any number and order; some columns are nobody's."""

    def __init__(self, seed: int, channels: int, readers: int, *, even: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.channels = channels
        self.readers: list[Reader] = []
        self.moments: Matrices = []
        for _ in range(readers):
            counts = np.ones(channels, dtype=int) if even else rng.integers(0, 4, channels)
            owners = np.repeat(np.arange(channels), counts)
            owners = rng.permutation(np.concatenate([owners, np.full(0 if even else rng.integers(0, 3), -1)]))
            columns, outputs = len(owners), int(rng.integers(1, 5))
            rows = rng.standard_normal((3 * columns + 5, columns)) @ rng.standard_normal((columns, columns))
            h = rows.T @ rows / len(rows) + 0.05 * np.eye(columns)
            weight = rng.standard_normal((outputs, columns)) * rng.uniform(0.1, 2, columns)
            worth = rng.uniform(0.2, 5, outputs)
            self.moments.append(h)
            self.readers.append(Reader(weight, inverse(h), owners.astype(np.int64), worth))

    def refitted(self, gone: Sequence[int]) -> Matrices:
        """Least squares weights of the columns that stay, zeros for the others."""
        found = []
        for reader, h in zip(self.readers, self.moments, strict=True):
            stay = np.flatnonzero(~np.isin(reader.channel, list(gone)))
            weight = np.zeros_like(reader.weight)
            weight[:, stay] = np.linalg.solve(h[np.ix_(stay, stay)], (reader.weight @ h[:, stay]).T).T
            found.append(weight)
        return found

    def loss(self, gone: Sequence[int]) -> float:
        """What the readers' outputs lose at least without these channels."""
        total = 0.0
        for reader, h, weight in zip(self.readers, self.moments, self.refitted(gone), strict=True):
            gap = reader.weight - weight
            total += float(np.einsum("oc,cd,od->o", gap, h, gap) @ np.broadcast_to(reader.worth, len(gap)))
        return total


CASES = st.builds(Case, st.integers(0, 99999), st.integers(2, 8), st.integers(1, 3))


def assert_losses(case: Case, found: Elimination) -> None:
    assert len(found.losses) == len(found.order) + 1
    for k in range(len(found.losses)):
        expected = case.loss(found.order[:k].tolist())
        np.testing.assert_allclose(found.losses[k], expected, rtol=1e-6, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_each_step_is_that_of_an_exhaustive_search(case: Case) -> None:
    """Where several channels would cost the same any of them may go: the losses are compared."""
    found = eliminate(case.readers, case.channels)
    assert sorted(found.order.tolist()) == list(range(case.channels))
    gone: list[int] = []
    for mine in found.order.tolist():
        left = [c for c in range(case.channels) if c not in gone]
        least = min(case.loss([*gone, c]) for c in left)
        assert case.loss([*gone, mine]) <= least * (1 + 1e-6) + 1e-8
        gone.append(mine)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 8))
def test_losses_are_the_least_squares_errors_of_what_is_kept(case: Case, down_to: int) -> None:
    found = eliminate(case.readers, case.channels, down_to=min(down_to, case.channels))
    assert len(found.order) == max(0, case.channels - down_to)
    assert_losses(case, found)
    assert (np.diff(found.losses) >= -1e-9).all()


@settings(max_examples=40, deadline=None)
@given(CASES, st.integers(1, 3))
def test_weights_seen_on_the_way_are_the_least_squares_fits_of_what_is_kept(case: Case, steps_of: int) -> None:
    seen: dict[int, Matrices] = {}
    steps = -(-case.channels // steps_of)
    found = eliminate(
        case.readers, case.channels, steps=steps, watch=lambda gone, weights: seen.update({gone: weights})
    )
    assert max(seen) == case.channels
    assert len(seen) <= steps
    for gone, weights in seen.items():
        removed = found.order[:gone].tolist()
        for reader, mine, expected in zip(case.readers, weights, case.refitted(removed), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-7)
            assert not mine[:, np.isin(reader.channel, removed)].any()
        np.testing.assert_allclose(found.losses[gone], case.loss(removed), rtol=1e-6, atol=1e-8)


def test_stops_are_never_run_over_and_steps_are_as_many_as_allowed() -> None:
    case = Case(1, 50, 2)
    seen: list[int] = []
    stops = [3, 20, 21, 44]
    eliminate(case.readers, 50, steps=7, stops=stops, down_to=1, watch=lambda gone, weights: seen.append(gone))
    assert set(stops) <= set(seen)
    assert seen == sorted(set(seen))
    assert seen[-1] == 49
    assert max(np.diff([0, *seen])) == 8  # 50 channels in 7 steps
    assert len(seen) <= 7 + len(stops)


def test_several_channels_at_once_are_those_that_cost_least_alone() -> None:
    case = Case(2, 12, 2)
    found = eliminate(case.readers, 12, steps=3, down_to=4)
    alone = [case.loss([c]) for c in range(12)]
    np.testing.assert_array_equal(found.order[:4], np.argsort(alone)[:4])
    left = [c for c in range(12) if c not in found.order[:4]]
    then = {c: case.loss([*found.order[:4].tolist(), c]) for c in left}
    assert found.order[4:].tolist() == sorted(left, key=lambda c: then[c])[:4]
    for k in (4, 8):
        np.testing.assert_allclose(found.losses[k], case.loss(found.order[:k].tolist()), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12))
def test_losses_rise_also_within_a_step(seed: int, steps: int) -> None:
    found = eliminate(Case(seed, 12, 2).readers, 12, steps=steps)
    assert (np.diff(found.losses) >= -1e-9).all()


def test_many_readers_count_as_one_reader_of_all_their_outputs() -> None:
    """Of the same rows: as for the residual stream of a network."""
    case = Case(3, 8, 1, even=True)
    (reader,), (h,) = case.readers, case.moments
    weights = [np.random.default_rng(k).standard_normal((k + 1, 8)) for k in range(3)]
    apart = [Reader(w, inverse(h), reader.channel, 2.0) for w in weights]
    together = [Reader(np.concatenate(weights), inverse(h), reader.channel, 2.0)]
    one, many = eliminate(together, 8), eliminate(apart, 8)
    np.testing.assert_array_equal(one.order, many.order)
    np.testing.assert_allclose(one.losses, many.losses, rtol=1e-8)


def test_outputs_of_all_readers_are_weighed_against_each_other() -> None:
    inverse, channel = np.eye(2), np.arange(2)
    weights = [np.array([[1.0, 0.5]]), np.array([[0.5, 1.0]])]

    def first(*worth: float) -> tuple[int, int]:
        apart = [Reader(w, inverse, channel, one) for w, one in zip(weights, worth, strict=True)]
        together = [Reader(np.concatenate(weights), inverse, channel, np.array(worth))]
        return int(eliminate(apart, 2).order[0]), int(eliminate(together, 2).order[0])

    assert first(2.0, 1.0) == (1, 1)
    assert first(1.0, 2.0) == (0, 0)


def test_a_channel_that_another_can_replace_goes_before_one_with_smaller_weights() -> None:
    """What a norm cannot see: channels 0 and 1 are nearly the same, 2 is alone."""
    h = np.array([[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = eliminate([Reader(np.array([[3.0, 3.0, 1.0]]), inverse(h), np.arange(3))], 3)
    assert found.order[0] in (0, 1)
    assert found.order[1] == 2


def test_readers_are_left_as_they_were() -> None:
    case = Case(4, 6, 2)
    before = [(r.weight.copy(), r.inverse.copy(), r.channel.copy()) for r in case.readers]
    eliminate(case.readers, 6)
    for reader, (weight, inverse, channel) in zip(case.readers, before, strict=True):
        np.testing.assert_array_equal(reader.weight, weight)
        np.testing.assert_array_equal(reader.inverse, inverse)
        np.testing.assert_array_equal(reader.channel, channel)


@pytest.mark.parametrize("readers", [0, 1])
def test_channels_that_nobody_reads_go_in_their_order_at_no_cost(readers: int) -> None:
    nobody = [Reader(np.ones((2, 3)), np.eye(3), np.full(3, -1))] * readers
    found = eliminate(nobody, 4, down_to=1)
    assert found.order.tolist() == [0, 1, 2]
    assert not found.losses.any()


def test_long_eliminations_stay_exact() -> None:
    """Downdates of a large, badly conditioned inverse do not drift."""
    rng = np.random.default_rng(5)
    columns, channels = 180, 60
    rows = rng.standard_normal((400, 30)) @ rng.standard_normal((30, columns)) + 0.1 * rng.standard_normal(
        (400, columns)
    )
    h = rows.T @ rows / 400
    h += 1e-3 * np.trace(h) / columns * np.eye(columns)
    case = Case(0, channels, 0)
    case.moments = [h]
    case.readers = [Reader(rng.standard_normal((20, columns)), inverse(h), np.tile(np.arange(channels), 3))]
    found = eliminate(case.readers, channels, down_to=2)
    for k in (10, 30, 50, 58):
        np.testing.assert_allclose(found.losses[k], case.loss(found.order[:k].tolist()), rtol=1e-6)
