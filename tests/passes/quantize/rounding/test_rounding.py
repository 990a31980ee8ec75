"""Roundings: each keeps its contract on every kind of layer, and none loses more than what it claims to improve on."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from intaglio.passes.precision.grid import Grid, Quantized, spread
from intaglio.passes.quantize.rounding.descent import descend
from intaglio.passes.quantize.rounding.gptq import successive
from intaglio.passes.quantize.rounding.nearest import mse, nearest
from intaglio.passes.quantize.rounding.rounding import BLIND, CANDIDATES, ROUNDERS, cheapest
from intaglio.passes.rounding.problem import Problem
from intaglio.passes.rounding.steps import cover_range, search_scales

ALL = ("adaround", "auto", "descent", "gptq", "mse", "nearest")
GRIDS = (Grid(2), Grid(3), Grid(4, narrow=True), Grid(4, signed=False), Grid(8, narrow=True))


def problem(
    groups: int = 1,
    outputs: int = 6,
    columns: int = 40,
    grid: Grid = GRIDS[2],
    *,
    block: int = 0,
    symmetric: bool = True,
    rows: int = 200,
    data: bool = True,
    seed: int = 0,
) -> Problem:
    """Correlated, skewed inputs; weights with heavy tails."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(groups, columns, columns)) / np.sqrt(columns) + np.eye(columns)
    x = np.maximum(rng.normal(size=(groups, rows, columns)) @ mix, 0)
    wanted = 0.1 * rng.standard_t(4, size=(groups, outputs, columns))
    return Problem(wanted, grid, x.transpose(0, 2, 1) @ x / rows if data else None, block, symmetric)


def total(p: Problem, q: Quantized) -> float:
    return float(p.cost(q.floats()).sum())


def check(p: Problem, q: Quantized) -> None:
    """What every rounding promises."""
    groups, outputs, columns = p.wanted.shape
    blocks = -(-columns // p.block) if p.block else 1
    assert q.integers.shape == p.wanted.shape
    assert q.scale.shape == (groups, outputs, blocks)
    assert q.grid == p.grid
    assert q.block == p.block
    assert q.integers.dtype == q.grid.narrow_type
    assert q.integers.min() >= p.grid.low
    assert q.integers.max() <= p.grid.high
    np.testing.assert_array_equal(q.scale, q.scale.astype(np.float32))
    assert (q.scale != 0).all()
    assert np.isfinite(q.floats()).all()
    if q.zero is not None:
        np.testing.assert_array_equal(q.zero, np.clip(np.rint(q.zero), p.grid.low, p.grid.high))
    if p.symmetric:
        zero = 0.0 if q.zero is None else q.zero
        assert np.all(zero == (0 if p.grid.signed else 1 << (p.grid.bits - 1)))


HARD = {
    "depthwise": lambda: problem(12, 1, 9),
    "grouped": lambda: problem(3, 4, 18),
    "one column": lambda: problem(1, 5, 1),
    "one weight": lambda: problem(1, 1, 1),
    "more columns than lazy": lambda: problem(1, 3, 150, rows=300),
    "few rows": lambda: problem(1, 4, 60, rows=5),
    "blocks": lambda: problem(1, 4, 64, block=16),
    "a shorter last block": lambda: problem(1, 4, 70, block=32),
    "blocks longer than rows": lambda: problem(2, 4, 10, block=16),
    "no data": lambda: problem(2, 4, 30, data=False),
    "no data, blocks": lambda: problem(1, 4, 70, block=32, data=False, symmetric=False),
}


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("case", sorted(HARD))
def test_every_rounding_keeps_its_contract_on_hard_layers(method: str, case: str) -> None:
    for symmetric in (True, False):
        p = HARD[case]()
        p = Problem(p.wanted, p.grid, p.hessian, p.block, symmetric)
        q = ROUNDERS[method](p)
        check(p, q)
        if method != "mse" or p.hessian is None:  # which does not know how inputs hang together
            assert total(p, q) <= total(p, nearest(p)) * (1 + 1e-9)


@pytest.mark.parametrize("method", ALL)
def test_every_rounding_works_on_every_grid(method: str) -> None:
    for grid, symmetric in product(GRIDS, (True, False)):
        p = problem(2, 3, 20, grid, symmetric=symmetric)
        check(p, ROUNDERS[method](p))


@pytest.mark.parametrize("method", ALL)
def test_rows_without_anything_to_round_stay_as_they_are(method: str) -> None:
    p = problem(2, 5, 24, GRIDS[2], block=8)
    wanted = p.wanted.copy()
    wanted[0, 1] = 0.0  # a row of noughts
    wanted[0, 2] = 0.25  # all the same
    wanted[1, 3] = -0.25
    wanted[:, 4, :8] = 0.0  # a block of noughts
    q = ROUNDERS[method](Problem(wanted, p.grid, p.hessian, p.block))
    values = q.floats()
    assert (values[0, 1] == 0).all()
    np.testing.assert_allclose(values[[0, 1], [2, 3]], wanted[[0, 1], [2, 3]], rtol=1e-6)
    check(Problem(wanted, p.grid, p.hessian, p.block), q)


@pytest.mark.parametrize("method", ALL)
def test_inputs_that_never_vary_or_vanish_do_no_harm(method: str) -> None:
    p = problem(2, 4, 20)
    assert p.hessian is not None
    hessian = p.hessian.copy()
    hessian[:, 3], hessian[:, :, 3] = 0.0, 0.0  # a dead input
    hessian[1] = 0.0  # a dead group
    p = Problem(p.wanted, p.grid, hessian)
    q = ROUNDERS[method](p)
    check(p, q)
    # where nothing tells, weights are still near what was wanted
    gap = np.abs(q.floats() - p.wanted)
    assert (gap[1] <= np.abs(p.wanted[1]).max(axis=1, keepdims=True)).all()


def test_the_same_problem_gives_the_same_integers() -> None:
    for method in ALL:
        one, two = (ROUNDERS[method](problem(2, 4, 30, block=16)) for _ in range(2))
        np.testing.assert_array_equal(one.integers, two.integers)
        np.testing.assert_array_equal(one.scale, two.scale)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [0, 16])
def test_nearest_numbers_lie_within_half_a_step(grid: Grid, symmetric: bool, block: int) -> None:
    p = problem(2, 5, 50, grid, block=block, symmetric=symmetric)
    q = nearest(p)
    step = spread(q.scale, block, 50)
    # a zero point is an integer, so that the ends may lie up to half a step beyond the last number
    slack = 0.5 if symmetric else 1.0
    assert (np.abs(q.floats() - p.wanted) <= slack * step * (1 + 1e-6)).all()
    for row, scale in zip(p.wanted.reshape(-1, 50), q.scale.reshape(10, -1)[:, 0], strict=True):
        part = row[: block or 50]
        if not symmetric:
            expected = (max(part.max(), 0) - min(part.min(), 0)) / (grid.high - grid.low)
        else:
            middle = 0 if grid.signed else 1 << (grid.bits - 1)
            expected = max(part.max() / (grid.high - middle), -part.min() / (middle - grid.low))
        assert scale == pytest.approx(expected, rel=1e-6)


def test_the_search_finds_what_a_fine_grid_of_scales_finds() -> None:
    p = problem(1, 8, 60, Grid(3), data=False)
    q = mse(p)
    for row, cost in zip(p.wanted[0], p.cost(q.floats())[0], strict=True):
        scales = np.concatenate([np.linspace(0.05, 1.1, 4000) * np.abs(row).max() / 3 * s for s in (1, -1)])
        codes = np.clip(np.rint(row / scales[:, None]), -4, 3)
        least = np.square(codes * scales[:, None] - row).sum(axis=1).min()
        assert cost <= least * 1.02


def test_a_lopsided_grid_is_turned_round_where_that_fits() -> None:
    row = np.array([[[2.0, 1.0, -1.0, 0.0, 2.0, 2.0]]])  # -2..1 says all of it with a scale of -1
    for hessian in (None, np.eye(6)[None]):
        q = mse(Problem(row, Grid(2), hessian))
        assert q.scale[0, 0, 0] < 0
        np.testing.assert_allclose(q.floats(), row, rtol=0.02)
    assert (mse(Problem(row, Grid(2, narrow=True))).scale > 0).all()


def test_weighted_scales_follow_the_columns_that_count() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(1, 4, 32))
    wanted[..., 16:] *= 10
    heavy = np.diag(np.where(np.arange(32) < 16, 1.0, 1e-6))[None]
    p = Problem(wanted, Grid(4), heavy)
    assert total(p, mse(p)) < 0.2 * total(p, mse(Problem(wanted, Grid(4))))


@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_each_method_lowers_the_error_of_a_layer(block: int, bits: int) -> None:
    p = problem(2, 16, 64, Grid(bits), block=block)
    costs = [total(p, ROUNDERS[name](p)) for name in ("nearest", "mse", "gptq", "descent")]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < 0.75 * costs[1]
    assert total(p, ROUNDERS["adaround"](p)) < costs[2]


def test_gptq_is_the_papers_algorithm() -> None:
    """Against its updates with the inverse of H, column after column."""
    p = problem(1, 5, 150, Grid(3), rows=400)
    assert p.hessian is not None
    steps = search_scales(p)
    q = successive(p, p.hessian, steps)
    h = p.hessian[0]
    order = np.argsort(-np.diag(h), kind="stable")
    inverse = np.linalg.inv(h[np.ix_(order, order)] + 0.01 * np.diag(h).mean() * np.eye(150))
    upper = np.linalg.cholesky(inverse).T
    left, expected = p.wanted[0][:, order].copy(), np.empty((5, 150))
    scale = steps.scale[0, :, 0]
    for j in range(150):
        expected[:, j] = p.grid.round(left[:, j], scale)
        error = (left[:, j] - expected[:, j] * scale) / upper[j, j]
        left[:, j:] -= error[:, None] * upper[j, j:]
    np.testing.assert_array_equal(q.integers[0][:, order], expected)


@pytest.mark.parametrize("block", [0, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_descent_never_makes_a_row_worse(block: int, symmetric: bool) -> None:
    for seed in range(5):
        p = problem(2, 8, 30, Grid(2), block=block, symmetric=symmetric, seed=seed)
        for start in (nearest(p), mse(p), ROUNDERS["gptq"](p)):
            q = descend(p, start)
            check(p, q)
            assert (p.cost(q.floats()) <= p.cost(start.floats()) * (1 + 1e-9)).all()


def test_after_descent_no_single_change_helps() -> None:
    p = problem(1, 4, 16, Grid(3))
    q = descend(p, ROUNDERS["gptq"](p), sweeps=50)
    cost = p.cost(q.floats())[0]
    for j, way in product(range(16), (-1, 1)):
        moved = q.integers.copy()
        moved[..., j] = np.clip(moved[..., j] + way, p.grid.low, p.grid.high)
        changed = Quantized(q.grid, moved, q.scale)
        assert (p.cost(changed.floats())[0] >= cost * (1 - 2e-3)).all()


def test_scales_are_those_of_least_error_for_their_integers() -> None:
    p = problem(1, 4, 16, Grid(3))
    q = descend(p, ROUNDERS["gptq"](p), sweeps=50)
    for factor in (0.999, 1.001):
        moved = Quantized(q.grid, q.integers, q.scale * factor)
        assert (p.cost(moved.floats()) >= p.cost(q.floats()) * (1 - 1e-6)).all()


def test_what_lies_on_the_grid_already_stays() -> None:
    """For instance the weights of a network that was trained on integers."""
    rng = np.random.default_rng(0)
    integers, scale = rng.integers(-7, 8, size=(1, 6, 40)), rng.uniform(0.01, 0.1, size=(1, 6, 1))
    integers[..., 0] = 7
    p = problem(1, 6, 40)
    p = Problem(integers * scale, Grid(4, narrow=True), p.hessian)
    for method in ALL:
        np.testing.assert_allclose(ROUNDERS[method](p).floats(), p.wanted, rtol=1e-2, atol=1e-3)


def test_the_best_method_is_told_and_no_dearer_than_any() -> None:
    p = problem(2, 6, 40, Grid(2))
    name, q = cheapest(p, CANDIDATES)
    np.testing.assert_array_equal(ROUNDERS["auto"](p).integers, q.integers)
    assert total(p, q) == min(total(p, ROUNDERS[n](p)) for n in ("nearest", "mse", "gptq", "descent"))
    np.testing.assert_array_equal(q.integers, ROUNDERS[name](p).integers)
    trivial = Problem(np.zeros((1, 2, 3)), Grid(4), np.eye(3)[None])
    assert cheapest(trivial, CANDIDATES)[0] == "nearest"
    blind = problem(data=False)
    np.testing.assert_array_equal(ROUNDERS["auto"](blind).integers, cheapest(blind, BLIND)[1].integers)


def test_all_methods_are_registered_and_name_their_source() -> None:
    assert set(ALL) <= set(ROUNDERS)
    for name in set(ALL) - {"auto"}:
        assert "Source:" in (ROUNDERS[name].__doc__ or "")
    assert cover_range(problem()).scale.shape == (1, 6, 1)
