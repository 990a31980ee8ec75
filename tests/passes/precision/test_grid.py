"""Integers stand for the numbers that scale and zero point say, and for the nearest of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.passes.precision.grid import Affine, Grid, Quantized, affine, spread
from tests.passes.parsed import parsed, run_plainly

numbers = st.floats(-1e4, 1e4, allow_nan=False, width=32)
grids = st.builds(Grid, st.integers(2, 8), st.booleans())


@pytest.mark.parametrize(("bits", "signed", "ends"), [(8, True, (-128, 127)), (8, False, (0, 255)), (2, True, (-2, 1))])
def test_a_grid_holds_all_integers_of_its_bits(bits: int, signed: bool, ends: tuple[int, int]) -> None:
    assert (Grid(bits, signed).low, Grid(bits, signed).high) == ends


@pytest.mark.parametrize(("bits", "stored"), [(2, 4), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8), (9, 16), (16, 16)])
def test_a_grid_is_stored_in_the_smallest_type_that_holds_it(bits: int, stored: int) -> None:
    assert Grid(bits).stored_bits == stored
    assert Grid(bits).dtype.itemsize * 8 >= stored


@given(numbers, numbers, grids, st.booleans())
def test_numbers_in_the_range_come_back_within_half_a_step(a: float, b: float, grid: Grid, symmetric: bool) -> None:
    low, high = min(a, b), max(a, b)
    found = affine(low, high, grid, symmetric=symmetric)
    values = np.linspace(min(low, 0), max(high, 0), 37)
    inside = (values >= found.range[0]) & (values <= found.range[1])
    gap = np.abs(found.floats(found.integers(values)) - values)[inside]
    assert (gap <= 0.5 * float(found.scale) * (1 + 1e-4) + 1e-6 * np.abs(values[inside])).all()


@given(numbers, numbers, grids)
def test_the_range_is_covered_to_half_a_step_and_nought_is_exact(a: float, b: float, grid: Grid) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    found = affine(low, high, grid)
    step = float(found.scale) * 0.51 + 1e-6 * max(-low, high)
    assert found.range[0] <= low + step
    assert found.range[1] >= high - step
    assert found.floats(found.integers(np.zeros(1))) == 0


@given(numbers, grids)
def test_a_range_from_nought_on_starts_with_the_lowest_integer(high: float, grid: Grid) -> None:
    found = affine(0.0, abs(high), grid)
    assert int(found.zero) == grid.low


def test_symmetric_zero_points_are_nought_or_the_middle() -> None:
    assert int(affine(-1, 3, Grid(8), symmetric=True).zero) == 0
    assert int(affine(-1, 3, Grid(8, signed=False), symmetric=True).zero) == 128


@pytest.mark.parametrize("signed", [True, False])
def test_integers_are_those_of_quantize_linear(signed: bool) -> None:
    kind = "int8" if signed else "uint8"
    model = parsed(
        "float[N] x",
        "float[N] y",
        f"float s, {kind} z",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        s=np.array(0.037, np.float32),
        z=np.array(3 if signed else 130, np.int8 if signed else np.uint8),
    )
    x = np.concatenate([np.linspace(-7, 7, 1001), 0.037 * (np.arange(-9, 9) + 0.5)]).astype(np.float32)
    q = run_plainly(model, {"x": x}, ["q", "y"])
    found = Affine(Grid(8, signed), np.array(0.037, np.float32), np.array(3 if signed else 130, np.int32))
    # Where single precision rounds x / s to a tie, the runtime may take the other side.
    assert np.abs(found.integers(x) - q["q"].astype(np.int32)).max() <= 1
    assert (found.integers(x) == q["q"]).mean() > 0.98
    np.testing.assert_array_equal(found.floats(q["q"]), q["y"])


def test_blocks_share_scales() -> None:
    integers = np.arange(10, dtype=np.int32).reshape(1, 1, 10)
    found = Quantized(Grid(8), integers, np.array([[[1.0, 10.0, 100.0]]]), None, 4).floats()
    assert found[0, 0].tolist() == [0, 1, 2, 3, 40, 50, 60, 70, 800, 900]


def test_one_scale_for_all_columns() -> None:
    assert spread(np.array([[2.0]]), 0, 3).tolist() == [[2.0, 2.0, 2.0]]
