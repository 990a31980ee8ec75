"""Refits: the closed form, and never worse on the calibration rows than leaving the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.passes.calibration.moments import Moments
from intaglio.passes.calibration.reconstruct import (
    REFITS,
    RIDGE,
    Fit,
    Sample,
    damp_hessian,
    moments_within,
    ridge,
    solve,
)

INFINITY = float("inf")
ROUNDING = 1e-9


class Problem:
    """Rows, and targets that the old weights nearly give, with rows that do not all vary alike."""

    def __init__(self, seed: int, groups: int, rows: int, columns: int, outputs: int) -> None:
        rng = np.random.default_rng(seed)
        mixing = rng.standard_normal((groups, columns, columns)) * rng.uniform(0.05, 2, (groups, 1, columns))
        self.u = rng.standard_normal((groups, rows, columns)) @ mixing + rng.standard_normal((groups, 1, columns))
        self.old = rng.standard_normal((groups, outputs, columns))
        noise = rng.standard_normal((groups, rows, outputs))
        self.t = (
            self.u @ self.old.transpose(0, 2, 1) + noise * rng.uniform(0, 2) + rng.standard_normal((groups, 1, outputs))
        )
        self.keep = rng.random((groups, columns)) < 0.7
        self.keep[:, rng.integers(columns)] = True
        self.moments = Moments()
        for k in range(0, rows, 7):
            self.moments.add(self.u[:, k : k + 7], self.t[:, k : k + 7])

    def pull(self, strength: float, keep: np.ndarray, centred: bool) -> np.ndarray:
        """What the ridge multiplies squared changes of weights with. Shapes: (groups,)."""
        rows = self.u - self.u.mean(axis=1, keepdims=True) if centred else self.u
        squares = np.square(rows).mean(axis=1)
        return strength * np.array([s[k].mean() for s, k in zip(squares, keep, strict=True)])


SIZES = st.tuples(st.integers(0, 9999), st.integers(1, 3), st.integers(2, 40), st.integers(1, 7), st.integers(1, 4))
STRENGTHS = st.sampled_from([1e-6, 1e-3, 0.1, 10.0])


def refit_through(
    bounds: tuple[float, float],
    samples: Callable[[], Iterator[Callable[[], Sample]]],
    known: Moments,
    fit: Fit,
    old: np.ndarray,
    *,
    rounds: int = REFITS,
    strength: float = RIDGE,
) -> Fit:
    for _ in range(rounds):
        fit = ridge(moments_within(bounds, samples(), known, fit), old, strength=strength)
    return fit


def squares(fit: Fit, problem: Problem) -> np.ndarray:
    """Mean squared error, summed over outputs. Shapes: (groups,)."""
    return np.asarray(np.square(fit(problem.u) - problem.t).mean(axis=1).sum(axis=1))


def least_squares(problem: Problem, keep: np.ndarray, strength: float, centred: bool) -> Fit:
    """The same by numpy: the pull as rows appended to the others, the offset as a column of ones."""
    groups, rows, _ = problem.u.shape
    weight, offset = np.zeros_like(problem.old), np.zeros(problem.old.shape[:2])
    pull = problem.pull(strength, keep, centred)
    for g in range(groups):
        kept = np.flatnonzero(keep[g])
        u = np.concatenate([problem.u[g][:, kept], np.ones((rows, 1))], axis=1)[:, : len(kept) + centred]
        more = np.sqrt(pull[g] * rows) * np.eye(len(kept), u.shape[1])
        pulled = np.sqrt(pull[g] * rows) * problem.old[g][:, kept].T
        found, *_ = np.linalg.lstsq(np.concatenate([u, more]), np.concatenate([problem.t[g], pulled]), rcond=None)
        weight[g][:, kept] = found[: len(kept)].T
        if centred:
            offset[g] = found[-1]
    return Fit(weight, offset)


@settings(max_examples=60, deadline=None)
@given(SIZES, STRENGTHS, st.booleans())
def test_the_ridge_is_least_squares_with_rows_appended(
    sizes: tuple[int, int, int, int, int], strength: float, centred: bool
) -> None:
    problem = Problem(*sizes)
    found = ridge(problem.moments, problem.old, centred=centred, strength=strength)
    expected = least_squares(problem, np.ones_like(problem.keep), strength, centred)
    np.testing.assert_allclose(found.weight, expected.weight, atol=1e-6)
    np.testing.assert_allclose(found.offset, expected.offset, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(SIZES, STRENGTHS, st.booleans())
def test_a_refit_never_has_a_larger_error_than_the_old_weights(
    sizes: tuple[int, int, int, int, int], strength: float, centred: bool
) -> None:
    """With the offset that suits them best."""
    problem = Problem(*sizes)
    fit = ridge(problem.moments, problem.old, centred=centred, strength=strength)
    plain = Fit(problem.old, np.zeros(problem.old.shape[:2]))
    if centred:
        plain = Fit(plain.weight, (problem.t - plain(problem.u)).mean(axis=1))
    change = np.square(fit.weight - plain.weight).sum(axis=(1, 2))
    regularised = squares(fit, problem) + problem.pull(strength, np.ones_like(problem.keep), centred) * change
    assert (regularised <= squares(plain, problem) * (1 + ROUNDING) + ROUNDING).all()


def test_the_pull_leads_from_least_squares_to_the_old_weights() -> None:
    problem = Problem(0, 1, 30, 4, 2)
    weak, strong = (ridge(problem.moments, problem.old, strength=s) for s in (1e-12, 1e12))
    np.testing.assert_allclose(weak.weight, least_squares(problem, np.ones((1, 4), bool), 0.0, True).weight, atol=1e-6)
    np.testing.assert_allclose(strong.weight, problem.old, atol=1e-6)
    np.testing.assert_allclose(strong.offset, (problem.t - problem.u @ problem.old.transpose(0, 2, 1)).mean(axis=1))


def test_what_the_old_weights_give_exactly_they_go_on_giving() -> None:
    problem = Problem(1, 2, 30, 4, 3)
    moments = Moments()
    moments.add(problem.u, problem.u @ problem.old.transpose(0, 2, 1) + 5)
    for strength in (1e-6, 1.0):
        fit = ridge(moments, problem.old, strength=strength)
        np.testing.assert_allclose(fit.weight, problem.old, atol=1e-8)
        np.testing.assert_allclose(fit.offset, 5, atol=1e-8)


@pytest.mark.parametrize("centred", [True, False])
def test_rows_that_never_move_leave_the_old_weights(centred: bool) -> None:
    moments, old = Moments(), np.random.default_rng(0).standard_normal((1, 3, 4))
    t = np.random.default_rng(1).standard_normal((1, 20, 3))
    moments.add(np.zeros((1, 20, 4)), t)
    fit = ridge(moments, old, centred=centred)
    np.testing.assert_array_equal(fit.weight, old)
    np.testing.assert_allclose(fit.offset, t.mean(axis=1) if centred else 0, atol=1e-12)


def test_dead_and_doubled_columns_are_no_obstacle() -> None:
    problem = Problem(2, 1, 50, 6, 2)
    problem.u[:, :, 3], problem.u[:, :, 5] = 0, problem.u[:, :, 1]
    moments = Moments()
    moments.add(problem.u, problem.t)
    fit = ridge(moments, problem.old)
    assert np.isfinite(fit.weight).all()
    np.testing.assert_allclose(fit.weight[:, :, 3], problem.old[:, :, 3], atol=1e-8)
    share = fit.weight[:, :, 1] - fit.weight[:, :, 5] - problem.old[:, :, 1] + problem.old[:, :, 5]
    np.testing.assert_allclose(share, 0, atol=1e-8)  # twins share what is to be changed


@pytest.mark.parametrize("strength", [1e-3, 0.1])
def test_damped_moments_are_those_that_the_solution_inverts(strength: float) -> None:
    problem = Problem(4, 1, 30, 5, 2)
    h, r, old = problem.moments.covariance[0], problem.moments.cross[0], problem.old[0]
    added = damp_hessian(h, strength) - h
    np.testing.assert_allclose(added, strength * np.trace(h) / 5 * np.eye(5), atol=1e-12)
    expected = (r + added[0, 0] * old) @ np.linalg.inv(damp_hessian(h, strength))
    np.testing.assert_allclose(solve(h, r, old, strength), expected, atol=1e-9)


@pytest.mark.parametrize("size", [0, 4])
def test_damped_moments_of_nothing_can_be_inverted(size: int) -> None:
    np.testing.assert_array_equal(damp_hessian(np.zeros((size, size))), np.eye(size))


def test_a_fit_gives_what_it_says_in_the_precision_of_the_rows() -> None:
    problem = Problem(5, 2, 10, 4, 3)
    fit = Fit(problem.old, np.random.default_rng(0).standard_normal((2, 3)))
    expected = np.einsum("grc,goc->gro", problem.u, fit.weight) + fit.offset[:, None]
    np.testing.assert_allclose(fit(problem.u), expected)
    single = fit(problem.u.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-4)


# Through a rectifier: what is wanted lies beyond a limit for many rows, and anything beyond it will do.

BOUNDS = st.sampled_from([(0.0, INFINITY), (0.0, 1.0), (-3.0, INFINITY), (-INFINITY, 0.5), (-0.5, 2.0)])


class Clipped:
    """One layer before a rectifier: other weights to begin with, and what another branch adds."""

    def __init__(self, seed: int, groups: int, rows: int, columns: int, outputs: int, *, branch: bool) -> None:
        self.problem = problem = Problem(seed, groups, rows, columns, outputs)
        rng = np.random.default_rng(seed + 1)
        self.others = rng.standard_normal(problem.t.shape) if branch else 0.0
        self.wanted = problem.t + self.others
        self.known = problem.moments

    def samples(self) -> Iterator[Callable[[], Sample]]:
        for k in range(0, self.wanted.shape[1], 9):
            rows = slice(k, k + 9)
            others = self.others[:, rows] if isinstance(self.others, np.ndarray) else 0.0
            yield partial(Sample, self.problem.u[:, rows].copy(), self.wanted[:, rows], others)

    def missed(self, fit: Fit, bounds: tuple[float, float]) -> np.ndarray:
        """Squared distance to the nearest value that would do. Shapes: (groups,)."""
        low, high = bounds
        got = fit(self.problem.u) + self.others
        enough = (self.wanted <= low) & (got <= low) | (self.wanted >= high) & (got >= high)
        gap = np.where(enough, 0.0, got - np.clip(self.wanted, low, high))
        return np.asarray(np.square(gap).mean(axis=1).sum(axis=1))

    def seen(self, fit: Fit, bounds: tuple[float, float]) -> np.ndarray:
        """Squared difference behind the rectifier. Shapes: (groups,)."""
        gap = np.clip(fit(self.problem.u) + self.others, *bounds) - np.clip(self.wanted, *bounds)
        return np.asarray(np.square(gap).mean(axis=1).sum(axis=1))

    def start(self, strength: float) -> Fit:
        return ridge(self.known, self.problem.old, strength=strength)

    def pulled(self, fit: Fit, strength: float) -> np.ndarray:
        everything = np.ones(self.problem.keep.shape, dtype=bool)
        change = np.square(fit.weight - self.problem.old).sum(axis=(1, 2))
        return np.asarray(self.problem.pull(strength, everything, True) * change)


@settings(max_examples=60, deadline=None)
@given(SIZES, BOUNDS, STRENGTHS, st.booleans())
def test_every_round_comes_nearer_to_values_that_would_do(
    sizes: tuple[int, int, int, int, int], bounds: tuple[float, float], strength: float, branch: bool
) -> None:
    """What falls, in every group and round, is the distance to values that would do, plus the pull."""
    case = Clipped(*sizes, branch=branch)
    fit = case.start(strength)
    for _ in range(4):
        before = case.missed(fit, bounds) + case.pulled(fit, strength)
        fit = refit_through(bounds, case.samples, case.known, fit, case.problem.old, rounds=1, strength=strength)
        after = case.missed(fit, bounds) + case.pulled(fit, strength)
        assert (after <= before * (1 + ROUNDING) + ROUNDING).all()


@settings(max_examples=40, deadline=None)
@given(SIZES, BOUNDS, STRENGTHS)
def test_behind_the_rectifier_the_error_is_no_larger_than_before_it_was_looked_through(
    sizes: tuple[int, int, int, int, int], bounds: tuple[float, float], strength: float
) -> None:
    case = Clipped(*sizes, branch=True)
    start = case.start(strength)
    fit = refit_through(bounds, case.samples, case.known, start, case.problem.old, strength=strength)
    limit = case.missed(start, bounds) + case.pulled(start, strength)
    assert (case.seen(fit, bounds) <= limit * (1 + ROUNDING) + ROUNDING).all()


def test_rounds_are_those_of_one_refit_after_the_other() -> None:
    case = Clipped(3, 2, 40, 5, 3, branch=True)
    bounds, old = (0.0, INFINITY), case.problem.old
    once = partial(refit_through, bounds, case.samples, case.known, rounds=1, strength=1e-3)
    twice = once(once(case.start(1e-3), old), old)
    both = refit_through(bounds, case.samples, case.known, case.start(1e-3), old, rounds=2, strength=1e-3)
    np.testing.assert_allclose(both.weight, twice.weight)
    np.testing.assert_allclose(both.offset, twice.offset)


def test_where_nothing_is_cut_off_looking_through_changes_nothing() -> None:
    case = Clipped(4, 2, 40, 5, 3, branch=False)
    start = case.start(1e-3)
    fit = refit_through((-1e6, 1e6), case.samples, case.known, start, case.problem.old, strength=1e-3)
    np.testing.assert_allclose(fit.weight, start.weight, atol=1e-9)


def test_looking_through_finds_a_layer_that_is_right_behind_the_rectifier() -> None:
    """The targets are of no linear layer, but what gets through is: half of the error goes in the first rounds."""
    rng = np.random.default_rng(0)
    u, old = rng.standard_normal((1, 400, 6)), rng.standard_normal((1, 4, 6))
    wanted = u @ old.transpose(0, 2, 1)
    wanted = np.where(wanted < 0, -np.abs(rng.standard_normal(wanted.shape)) * 5, wanted)
    moments = Moments()
    moments.add(u, wanted)

    def samples() -> Iterator[Callable[[], Sample]]:
        yield lambda: Sample(u.copy(), wanted)

    def error(fit: Fit) -> float:
        return float(np.square(np.maximum(fit(u), 0) - np.maximum(wanted, 0)).mean())

    far = rng.standard_normal(old.shape) * 0.1
    start = ridge(moments, far, strength=1e-3)
    through = partial(refit_through, (0.0, INFINITY), samples, moments, start, far, strength=1e-3)
    errors = [error(through(rounds=k)) for k in (0, 2, 30)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[0] / 50
