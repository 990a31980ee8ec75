"""Fronts, ranks and volumes against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.errors import UsageError
from intaglio.pipeline.study.objectives import best, hypervolume, objectives, ranks
from intaglio.pipeline.study.predictors.predictor import PREDICTORS, judged, kendall


def beaten(row: np.ndarray, rows: np.ndarray) -> bool:
    return bool(((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any())


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_front_is_what_nothing_beats(columns: int) -> None:
    rows = np.random.default_rng(columns).integers(0, 8, (60, columns)).astype(float)
    rows[3] = np.inf
    front = best(rows)
    finite = np.isfinite(rows).all(axis=1)
    wanted = {tuple(row) for row in rows[finite] if not beaten(row, rows[finite])}
    assert {tuple(row) for row in rows[front]} == wanted
    assert front.sum() == len(wanted)  # of equal rows one


def test_ranks_are_fronts_of_what_is_left() -> None:
    rows = np.random.default_rng(1).random((40, 2))
    rank = ranks(rows)
    left = np.arange(40)
    for step in range(rank.max() + 1):
        front = best(rows[left])
        assert set(left[front]) == set(np.flatnonzero(rank == step))
        left = left[~front]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_volume_is_the_part_of_a_grid_that_is_dominated(columns: int) -> None:
    rng = np.random.default_rng(columns)
    rows = rng.integers(0, 12, (15, columns)) / 10  # some lie outside
    axes = np.meshgrid(*[(np.arange(10) + 0.5) / 10] * columns)
    cells = np.stack([axis.ravel() for axis in axes], axis=1)
    dominated = np.any(np.all(rows[None] <= cells[:, None], axis=2), axis=1)
    assert hypervolume(rows, np.ones(columns)) == pytest.approx(dominated.mean())


def test_an_objective_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match="no objective 'sise'"):
        objectives(["sise"])
    with pytest.raises(UsageError, match="named twice"):
        objectives(["size", "size"])


def test_figures_that_were_not_measured_cost_more_than_any() -> None:
    accuracy, size = objectives(["accuracy", "size"])
    assert accuracy.cost({"accuracy": {"top1": 0.9}}) == -0.9
    assert size.cost({"kept": {"size_bytes": 0.5}}) == 0.5
    assert accuracy.cost({"accuracy": None}) == np.inf
    (errors,) = objectives(["accuracy"], smaller_accuracy=True)
    assert errors.cost({"accuracy": {"wer": 0.2}}) == 0.2


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_a_predictor_orders_what_it_has_not_seen(name: str) -> None:
    rng = np.random.default_rng(4)
    features = rng.random((48, 8))
    figures = features @ np.linspace(1, 2, 8) - np.square(features[:, 0] - 0.5) + 0.05 * rng.normal(size=48)
    assert judged(PREDICTORS[name], features, figures) > 0.6
    assert abs(judged(PREDICTORS[name], features, rng.normal(size=48))) < 0.35


def test_kendalls_tau_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(12), rng.random(12)
    signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in range(12) for j in range(i)]
    assert kendall(a, b) == pytest.approx(np.mean(signs))
