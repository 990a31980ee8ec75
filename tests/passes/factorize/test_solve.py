"""Factors are the best there are, by weights and by what layers make of their inputs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.passes.factorize import solve
from intaglio.passes.factorize.evbmf import evbmf_rank
from intaglio.passes.factorize.schemes.scheme import SCHEMES
from intaglio.passes.factorize.solve import alternate_factors, energies, truncate_rank

from .layers import factored, gap, layer, moments_of, the_unit


def loss(w: np.ndarray, product: np.ndarray, h: np.ndarray) -> float:
    error = w - product
    return float(np.trace(error @ h @ error.T))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_truncation_reaches_the_known_optimum(m: int, n: int, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((m, n))
    h = moments_of(n, seed=seed)[0] if weighted else None
    for rank in range(1, min(m, n) + 1):
        a, b = truncate_rank(w, rank, h)
        white = w if h is None else w @ np.linalg.cholesky(h)
        tail = np.linalg.svd(white, compute_uv=False)[rank:] ** 2
        metric = np.eye(n) if h is None else h
        assert loss(w, a @ b, metric) == pytest.approx(tail.sum(), abs=1e-8)
        assert energies(white)[rank:].sum() == pytest.approx(tail.sum(), abs=1e-8)


def conv(seed: int = 0, groups: int = 1):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    weights = {"w": rng.standard_normal((8 * groups, 6, 3, 3)).astype(np.float32)}
    return layer("Conv", {"x": [1, 6 * groups, 7, 7]}, weights, ["x", "w"], group=groups, pads=[1, 1, 1, 1])


@pytest.mark.parametrize("name", ["spatial", "input", "tucker", "channel"])
@pytest.mark.parametrize("groups", [1, 2])
def test_factors_for_real_inputs_lose_less_at_the_output_than_those_of_weights(name: str, groups: int) -> None:
    model = conv(groups=groups)
    site, scheme = the_unit(model).site, SCHEMES[name]
    matrices, moments = site.folded(model.weights["w"].astype(np.float64)), moments_of(site.columns, groups)
    for rank in (2, 4):
        aware, blind = (scheme.factor(site, matrices, rank, h).product() for h in (moments, None))
        for g in range(groups):
            assert loss(matrices[g], aware[g], moments[g]) < 0.98 * loss(matrices[g], blind[g], moments[g])


@pytest.mark.parametrize("outer_rank", [None, 4])
def test_more_alternations_never_lose_more(outer_rank: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, outputs, n, rank = 3, 5, 6, 3
    w, h = np.random.default_rng(0).standard_normal((slots, outputs, n)), moments_of(slots * n)[0]
    harms = []
    for rounds in (1, 2, 6, 20, 60):
        monkeypatch.setattr(solve, "ROUNDS", rounds)
        v, f, u = alternate_factors(w, h.reshape(slots, n, slots, n), rank, outer_rank=outer_rank)
        product = np.matmul(f if u is None else u @ f, v).transpose(1, 0, 2).reshape(outputs, -1)
        harms.append(loss(w.transpose(1, 0, 2).reshape(outputs, -1), product, h))
    assert all(after <= before * 1.01 for before, after in pairwise(harms)), harms
    assert harms[-1] < 0.95 * harms[0]


def test_a_weight_of_low_rank_is_found_again() -> None:
    rng = np.random.default_rng(2)
    v, f = rng.standard_normal((2, 3 * 6)), rng.standard_normal((3, 8, 2))  # k x 1 over inputs, then 1 x k
    by_slot = np.einsum("dor,rn->don", f, v).reshape(3, 8, 3, 6)  # (kw, o, kh, i)
    w = by_slot.transpose(1, 3, 2, 0).astype(np.float32)
    model = layer("Conv", {"x": [1, 6, 7, 7]}, {"w": np.ascontiguousarray(w)}, ["x", "w"])
    unit = the_unit(model)
    matrices = unit.matrices(model)
    for h in (None, moments_of(unit.site.columns)):
        product = SCHEMES["spatial"].factor(unit.site, matrices, 2, h).product()
        assert gap(matrices, product) < 1e-5


def test_components_are_as_large_in_one_factor_as_in_the_other() -> None:
    model = conv()
    site = the_unit(model).site
    factors = SCHEMES["spatial"].factor(site, site.folded(model.weights["w"].astype(np.float64)), 4)
    inner = np.linalg.norm(factors.inner[0], axis=1)
    outer = np.sqrt(np.square(factors.middle[0]).sum(axis=(0, 1)))
    np.testing.assert_allclose(inner, outer, rtol=1e-6)


@pytest.mark.parametrize("rank", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50)])
def test_the_rank_under_noise_is_found(rank: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    noisy = signal + 0.3 * rng.standard_normal(shape)
    assert evbmf_rank(np.linalg.svd(noisy, compute_uv=False), *shape) == rank


def test_nothing_stands_out_of_zeros() -> None:
    assert evbmf_rank(np.zeros(4), 4, 6) == 0


def test_full_rank_with_moments_is_exact_for_wide_outputs() -> None:
    rng = np.random.default_rng(5)
    model = layer("MatMul", {"x": [2, 4]}, {"w": rng.standard_normal((4, 9)).astype(np.float32)}, ["x", "w"])
    unit = the_unit(model)
    small = factored(model, unit, "svd", 4, moments_of(4))
    product = small.weights["w_0"] @ small.weights["w_1"]
    assert gap(model.weights["w"], product) < 1e-5


@pytest.mark.parametrize("name", ["spatial", "input", "tucker", "channel"])
@pytest.mark.parametrize("case", ["zero weight", "dead inputs", "one direction", "low rank", "tiny", "huge"])
def test_degenerate_layers_give_finite_factors(name: str, case: str) -> None:
    model = conv()
    site, scheme = the_unit(model).site, SCHEMES[name]
    w, h = site.folded(model.weights["w"].astype(np.float64)), moments_of(site.columns)
    if case == "zero weight":
        w = np.zeros_like(w)
    if case == "dead inputs":
        h[:, ::2] = h[:, :, ::2] = 0
    if case == "one direction":
        h = np.ones_like(h)
    if case == "low rank":
        w = w[:, :, :1] * np.ones((1, 1, site.columns))
    w, h = {"tiny": (w * 1e-8, h * 1e-12), "huge": (w * 1e6, h * 1e8)}.get(case, (w, h))
    h = h + np.maximum(1e-4 * np.einsum("gcc->g", h) / site.columns, 1e-12) * np.eye(site.columns)
    for rank in (1, 4, scheme.largest(site)):
        product = scheme.factor(site, w, rank, h).product()
        assert np.isfinite(product).all()
        assert loss(w[0], product[0], h[0]) <= 1.01 * loss(w[0], 0 * w[0], h[0]) + 1e-12


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_in_single_precision_is_cut_as_in_double(turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "AT_ONCE", 500)
    w = np.random.default_rng(0).standard_normal((40, 90)).astype(np.float32)
    w = w.T if turned else w
    np.testing.assert_allclose(energies(w), energies(w.astype(np.float64)), rtol=1e-9)
    left, right = truncate_rank(w, 7)
    assert left.dtype == right.dtype == np.float32
    best = np.matmul(*truncate_rank(w.astype(np.float64), 7))
    np.testing.assert_allclose(left @ right, best, atol=1e-5)


def test_a_sketch_is_used_where_its_bound_is_good_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "_SKETCHED", 100)
    rng = np.random.default_rng(0)
    rough = rng.standard_normal((200, 500)).astype(np.float32)
    near = (rng.standard_normal((200, 8)) @ rng.standard_normal((8, 500)) + 1e-2 * rough).astype(np.float32)
    found = solve._range(near, 8)
    assert found is not None
    np.testing.assert_allclose(found.T @ found, np.eye(8), atol=1e-4)
    error = np.square(near - found @ (found.T @ near)).sum()
    least = energies(near)[8:].sum()
    assert least * 0.999 <= error <= 1.01 * least
    assert solve._range(near, 26) is None, "the Gram matrix is as fast"
    left, right = truncate_rank(near, 8)
    np.testing.assert_allclose(np.square(near - left @ right).sum(), error, rtol=1e-3)


def test_a_sketch_that_may_have_missed_much_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "_SKETCHED", 100)
    flat = np.random.default_rng(0).standard_normal((200, 220)).astype(np.float32)
    assert solve._range(flat, 20) is None
    left, right = truncate_rank(flat, 20)
    assert np.square(flat - left @ right).sum() == pytest.approx(energies(flat)[20:].sum(), rel=1e-4)
