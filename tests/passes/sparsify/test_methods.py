"""Which weights stay, and what they become: against brute force and planted answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.passes.calibration import support
from intaglio.passes.calibration.support import on_support
from intaglio.passes.sparsify.codebook import clustered, shared_values
from intaglio.passes.sparsify.method import METHODS, Problem
from intaglio.passes.sparsify.patterns import pattern_named

WITH_DENSITY = ["magnitude", "random", "lamp", "wanda", "obs"]


def moments(rng: np.random.Generator, columns: int, groups: int = 1, samples: int = 0) -> np.ndarray:
    mixed = rng.normal(size=(groups, samples or 4 * columns, columns)) @ (
        np.eye(columns) + 0.3 * rng.normal(size=(columns, columns))
    )
    h = mixed.transpose(0, 2, 1) @ mixed / mixed.shape[1]
    return h + 1e-3 * np.eye(columns) * np.einsum("gcc->g", h)[:, None, None] / columns


def cost(found: np.ndarray, wanted: np.ndarray, h: np.ndarray) -> float:
    return float(np.einsum("goc,gcd,god->", found - wanted, h, found - wanted))


def asked(wanted: np.ndarray, h: np.ndarray | None, count: int, pattern: str = "any", **more: object) -> Problem:
    return Problem(wanted, h, count, pattern_named(pattern), "layer", 0, **more)  # type: ignore[arg-type]


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 5), st.integers(2, 12))
def test_what_stays_is_the_least_squares_answer(seed: int, groups: int, outputs: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    h, wanted = moments(rng, columns, groups), rng.normal(size=(groups, outputs, columns))
    mask = rng.random(wanted.shape) < 0.5
    found = on_support(wanted, h, mask)
    slope = np.where(mask, (found - wanted) @ h, 0.0)
    assert not found[~mask].any()
    assert np.abs(slope).max() < 1e-8 * max(1.0, np.abs(wanted @ h).max())


def test_wide_layers_come_to_the_same_by_conjugate_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    h, wanted = moments(rng, 40), rng.normal(size=(1, 30, 40))
    mask = rng.random(wanted.shape) < 0.4
    exact = on_support(wanted, h, mask)
    monkeypatch.setattr(support, "_EXACT", 0)
    near = on_support(wanted, h, mask)
    assert not near[~mask].any()
    assert cost(near, wanted, h) == pytest.approx(cost(exact, wanted, h), rel=1e-6)


@pytest.mark.parametrize("name", WITH_DENSITY)
@pytest.mark.parametrize("pattern", ["any", "2:4", "block"])
def test_methods_keep_as_many_as_they_are_asked(name: str, pattern: str) -> None:
    rng = np.random.default_rng(1)
    h, wanted = moments(rng, 24, 2), rng.normal(size=(2, 10, 24))
    count = wanted.size // 2
    found = METHODS[name].solve(asked(wanted, h, count, pattern))
    assert np.count_nonzero(found) == count
    plain = METHODS[name].solve(asked(wanted, h, count, pattern, refit=False))
    assert (plain != 0).sum() == count
    if name != "obs":  # whose rounds score fitted weights
        assert ((plain != 0) == (found != 0)).all()
        assert (plain[plain != 0] == wanted[plain != 0]).all()
    assert cost(found, wanted, h) < cost(plain, wanted, h)


@pytest.mark.parametrize("seed", range(3))
def test_obs_loses_least_and_more_rounds_lose_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, wanted = moments(rng, 48, samples=400), rng.normal(size=(1, 16, 48))
    lost = {
        name: cost(METHODS[name].solve(asked(wanted, h, wanted.size // 5)), wanted, h)
        for name in ("obs:rounds=32", "obs", "obs:rounds=2", "magnitude", "random")
    }
    assert sorted(lost, key=lambda name: lost[name]) == list(lost)


def test_planted_weights_are_found() -> None:
    rng = np.random.default_rng(3)
    h, planted = moments(rng, 64), np.where(rng.random((1, 20, 64)) < 0.1, rng.normal(size=(1, 20, 64)), 0.0)
    planted += np.sign(planted) * 0.3
    noisy = planted + 0.003 * rng.normal(size=planted.shape)
    for name in ("obs", "magnitude"):
        found = METHODS[name].solve(asked(noisy, h, int((planted != 0).sum())))
        assert ((found != 0) == (planted != 0)).all()
        assert np.abs(found - planted).max() < 0.05
    found = METHODS["nettrim:tolerance=0.02"].solve(asked(noisy, h, noisy.size))
    assert not found[planted == 0].any()
    assert np.count_nonzero(found) > 0.9 * np.count_nonzero(planted)


@settings(max_examples=15)
@given(st.integers(0, 999), st.floats(0.01, 0.6))
def test_net_trim_stays_within_its_tolerance_and_uses_it(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    h, wanted = moments(rng, 20, 2), rng.normal(size=(2, 6, 20))
    found = METHODS[f"nettrim:tolerance={tolerance}"].solve(asked(wanted, h, wanted.size))
    for one, true, around in zip(found, wanted, h, strict=True):
        error = cost(one[None], true[None], around[None]) ** 0.5
        given_out = cost(0 * true[None], true[None], around[None]) ** 0.5
        assert error <= tolerance * given_out
    assert np.count_nonzero(found) < found.size or tolerance < 0.05


def test_wanda_compares_within_each_output() -> None:
    rng = np.random.default_rng(4)
    wanted = rng.normal(size=(1, 8, 32)) * 10.0 ** np.arange(8)[:, None]
    found = METHODS["wanda"].solve(asked(wanted, moments(rng, 32), 8 * 8))
    assert (np.count_nonzero(found, axis=-1) == 8).all()


def test_lamp_is_what_its_paper_says() -> None:
    wanted = np.array([[[3.0, -1.0, 2.0]]])
    scores = METHODS["lamp"].scores
    assert scores is not None
    assert scores(asked(wanted, None, 1)).tolist() == [[[1.0, 1 / 14, 4 / 13]]]


@given(st.integers(0, 999), st.sampled_from([3, 8, 16]), st.booleans())
def test_weights_share_so_many_values(seed: int, count: int, data: bool) -> None:
    rng = np.random.default_rng(seed)
    wanted = np.where(rng.random((2, 5, 12)) < 0.5, rng.normal(size=(2, 5, 12)), 0.0)
    found = shared_values(wanted, moments(rng, 12, 2) if data else None, count)
    assert len(np.unique(np.append(found, 0.0))) <= count
    assert ((found != 0) <= (wanted != 0)).all()


def test_clusters_are_those_of_least_squares() -> None:
    values = np.array([-1.1, -1.0, -0.9, 1.9, 2.0, 2.1])
    assert clustered(values, np.ones(6), 2) == pytest.approx([-1, 2])
    assert clustered(values, np.array([1.0, 1, 1, 0, 0, 1]), 2) == pytest.approx([-1, 2.1])
