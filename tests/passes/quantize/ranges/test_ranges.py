"""Range methods against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.passes.calibration.statistics import Histogram
from intaglio.passes.precision.grid import Grid, affine
from intaglio.passes.quantize.ranges.activations import Trial
from intaglio.passes.quantize.ranges.ranges import BINS, RANGES, squared_error

U8, S8 = Grid(8, signed=False), Grid(8)


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram(BINS)
    for piece in np.array_split(values, 7):
        found.add(piece)
    return found


def long_tailed(count: int = 200_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([np.abs(rng.standard_normal(count)), [40.0]]).astype(np.float32)


def error(values: np.ndarray, limits: tuple[float, float], grid: Grid, symmetric: bool = False) -> float:
    found = affine(*limits, grid, symmetric=symmetric)
    return float(np.square(found.floats(found.integers(values)) - values).mean())


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("grid", [U8, S8, Grid(4, signed=False)])
def test_a_range_lies_within_the_values_and_holds_nought_of_rectified_ones(
    name: str, symmetric: bool, grid: Grid
) -> None:
    for values in (long_tailed(), -long_tailed(), np.random.default_rng(1).normal(0.3, 1, 50_000)):
        low, high = RANGES[name](histogram(values), grid, symmetric)
        assert low < high
        reach = np.abs(values).max() * (1 + 1e-6)
        assert -reach <= low <= max(values.min(), 0) + 1e-6 or symmetric
        assert high <= reach


@pytest.mark.parametrize("name", list(RANGES))
def test_constant_and_empty_looking_tensors_have_a_range(name: str) -> None:
    for values in (np.zeros(100), np.full(100, 3.0), np.full(100, -3.0)):
        low, high = RANGES[name](histogram(values), U8, False)
        found = affine(low, high, U8)
        assert np.abs(found.floats(found.integers(values)) - values).max() <= 0.02 * np.abs(values).max()


def test_minmax_is_the_smallest_and_the_largest_value() -> None:
    values = np.random.default_rng(0).normal(1, 2, 1000).astype(np.float32)
    assert RANGES["minmax"](histogram(values), U8, False) == (values.min(), values.max())


def test_percentile_leaves_out_one_of_ten_thousand() -> None:
    values = long_tailed()
    low, high = RANGES["percentile"](histogram(values), U8, False)
    assert low == 0
    assert (values > high).mean() == pytest.approx(1e-4, rel=0.2)


@pytest.mark.parametrize("bits", [4, 8])
def test_mse_is_nearly_the_best_of_all_ranges(bits: int) -> None:
    values, grid = long_tailed(), Grid(bits, signed=False)
    found = error(values, RANGES["mse"](histogram(values), grid, False), grid)
    best = min(error(values, (0.0, high), grid) for high in np.linspace(0.5, 40, 300))
    assert found <= 1.05 * best
    assert found < error(values, (0.0, float(values.max())), grid)


def test_entropy_cuts_a_lone_outlier_off() -> None:
    assert RANGES["entropy"](histogram(long_tailed()), Grid(4, signed=False), False)[1] < 20


def test_the_error_that_a_histogram_tells_is_that_of_the_values() -> None:
    values = long_tailed()
    for limits in ((0.0, 4.0), (0.0, 40.0)):
        told = squared_error(histogram(values), affine(*limits, U8))
        assert told == pytest.approx(error(values, limits, U8), rel=0.05)


def test_few_samples_without_large_values_do_not_choose_a_range_that_cuts_them_off() -> None:
    """Samples tell how layers enlarge errors; how large errors are, all values tell."""
    values = np.concatenate([long_tailed(), np.full(100, 40.0, np.float32)])
    tried = {"tight": affine(0.0, 4.0, U8), "wide": affine(0.0, 40.0, U8)}
    seen = values[:1000]
    assert error(seen, (0.0, 4.0), U8) < error(seen, (0.0, 40.0), U8)
    weights = np.random.default_rng(2).standard_normal((1, 5, 10)).astype(np.float32)
    told = {name: squared_error(histogram(values), a) for name, a in tried.items()}
    trial = Trial(tried, told)
    trial.add(seen.reshape(1, 100, 10), weights)
    expected = {name: error(values, a.range, U8) for name, a in tried.items()}
    assert trial.best == min(expected, key=lambda name: expected[name])
