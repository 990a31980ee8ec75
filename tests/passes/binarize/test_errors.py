"""What each algorithm leaves without data: the published errors on random weights, and what holds for all weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.layer import Floats
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, Problem
from intaglio.passes.binarize.algorithms.codes import SHIFTED, SIGN, TERNARY, TWO_MASKS, TWO_PLANES, Book, Code
from intaglio.passes.binarize.algorithms.fit import rescale_rows
from intaglio.passes.binarize.algorithms.onebit import rank_one
from intaglio.passes.binarize.algorithms.pb import errors, largest_salience

BOOKS = (SIGN, SHIFTED, TERNARY, TWO_PLANES, TWO_MASKS)
DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
}


def solved(name: str, wanted: Floats, **options: float) -> Code:
    block = BINARIZERS[name].block or 0
    return BINARIZERS[name].solve(replace(Problem(wanted, None, block), **options)).stored()  # type: ignore[arg-type]


def means(wanted: Floats) -> tuple[float, float]:
    return float(np.square(wanted).mean()), float(np.abs(wanted).mean())


def error(wanted: Floats, code: Code) -> float:
    return float(np.square(code.floats() - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize("draw", list(DRAWS))
@pytest.mark.parametrize("name", list(BINARIZERS))
def test_errors_on_random_weights_are_those_that_are_told(name: str, draw: str) -> None:
    wanted = DRAWS[draw](np.random.default_rng(0), (1, 48, 4096))
    told = BINARIZERS[name].expected(*means(wanted), 0.1)
    assert error(wanted, solved(name, wanted)) == pytest.approx(told, rel=0.03)


@pytest.mark.parametrize(
    ("name", "normal", "laplace"),
    [
        ("xnor", 0.3634, 0.500),
        ("twn", 0.192, 0.282),
        ("tbt", 0.200, 0.315),
        ("residual", 0.131, 0.229),
        ("planes", 0.118, 0.176),
        ("pb", 0.172, 0.156),
    ],
)
def test_told_errors_are_the_known_ones(name: str, normal: float, laplace: float) -> None:
    rng = np.random.default_rng(1)
    for draw, known in (("normal", normal), ("laplace", laplace)):
        wanted = DRAWS[draw](rng, (1, 64, 4096))
        assert BINARIZERS[name].expected(*means(wanted), 0.1) == pytest.approx(known, abs=0.004)


@pytest.mark.parametrize("salient", [0.0, 0.05, 0.3, 0.8])
def test_what_salient_weights_save_follows_from_the_distribution(salient: float) -> None:
    rng = np.random.default_rng(0)
    for draw, told in zip(DRAWS.values(), errors(salient), strict=True):
        size = np.sort(np.abs(draw(rng, (400_000,))))
        signs = size[: round((1 - salient) * len(size))]
        left = np.square(signs - signs.mean()).sum() / np.square(size).sum()
        assert told == pytest.approx(left, abs=0.004)


def matrices(rows: int = 6, columns: int = 40) -> st.SearchStrategy[Floats]:
    """Real weights of all kinds: rows of noughts, of one number, outliers."""

    def make(seed: int, width: int, kind: str) -> Floats:
        rng = np.random.default_rng(seed)
        w = rng.laplace(size=(1, rows, width)) * 10.0 ** rng.integers(-3, 3)
        if kind == "dead":
            w[:, ::2] = 0
        if kind == "flat":
            w[:, 0], w[:, 1] = 0.25, -1.5
        if kind == "outlier":
            w[0, 0, 0] = 1e4
        return np.asarray(w.astype(np.float32), np.float64)

    return st.builds(
        make, st.integers(0, 10_000), st.integers(1, columns), st.sampled_from(["plain", "dead", "flat", "outlier"])
    )


@settings(max_examples=60, deadline=None)
@given(matrices(), st.sampled_from([0, 8, 16]))
def test_two_planes_are_never_worse_than_one_after_the_other_nor_those_than_one(wanted: Floats, block: int) -> None:
    costs = {
        name: Problem(wanted, None, block).cost(BINARIZERS[name].solve(Problem(wanted, None, block)).floats()).sum()
        for name in ("xnor", "residual", "planes", "twn", "onebit")
    }
    slack = 1e-9 * np.square(wanted).sum()
    assert costs["planes"] <= costs["residual"] + slack
    assert costs["residual"] <= costs["xnor"] + slack
    if not block:
        assert costs["onebit"] <= costs["xnor"] + slack


@settings(max_examples=60, deadline=None)
@given(matrices(), st.sampled_from(sorted(BINARIZERS)), st.sampled_from([0, 8]))
def test_every_row_is_finite_and_rows_of_noughts_stay_nought(wanted: Floats, name: str, block: int) -> None:
    block = 0 if BINARIZERS[name].block is None else block
    code = BINARIZERS[name].solve(Problem(wanted, None, block)).stored(half=True)
    near = code.floats()
    assert np.isfinite(near).all()
    assert not near[(wanted == 0).all(axis=-1)].any()


def test_rows_of_one_number_are_told_exactly() -> None:
    wanted = np.full((1, 3, 24), 0.37)
    wanted[:, 1] *= -2
    for name in set(BINARIZERS) - {"tbt"}:  # whose scale is 4/3 of the mean size whatever the weights
        np.testing.assert_allclose(solved(name, wanted).floats(), wanted, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("book", BOOKS, ids=lambda b: b.name)
def test_numbers_are_sums_of_signs(book: Book) -> None:
    """What is stored stands for what was chosen."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, len(book.pattern), (2, 5, 20)).astype(np.uint8)
    code = Code(book, levels, rng.normal(size=(book.terms, 2, 5, 3)), block=8)
    planes, shift = code.plane_scales()
    wide = planes[..., code.part]
    near = (code.signs() * wide).sum(axis=0) + (0 if shift is None else shift[..., code.part])
    np.testing.assert_allclose(near, code.floats(), atol=1e-12)
    if book.shift_is_sum and shift is not None:
        np.testing.assert_allclose(shift, planes.sum(axis=0))


def test_scales_of_least_squares_leave_nothing_to_gain() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(2, 4, 30))
    for book in BOOKS:
        levels = rng.integers(0, len(book.pattern), wanted.shape).astype(np.uint8)
        best = rescale_rows(wanted, Code(book, levels, np.ones((book.terms, 2, 4, 4)), block=8))
        least = np.square(best.floats() - wanted).sum()
        for _ in range(10):
            other = best.at(best.levels, best.scale + 1e-3 * rng.normal(size=best.scale.shape))
            assert np.square(other.floats() - wanted).sum() >= least


def test_the_product_of_row_and_column_is_the_best_one() -> None:
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.normal(size=(1, 20, 33)))
    row, column = rank_one(sizes)
    u, s, v = np.linalg.svd(sizes[0])
    np.testing.assert_allclose(row[0][:, None] * column[0], s[0] * np.outer(u[:, 0], v[0]), rtol=1e-8)
    assert column.mean() == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(matrices(), st.sampled_from([0.0, 0.1, 0.5]))
def test_so_many_weights_are_salient_and_those_are_nearly_exact(wanted: Floats, part: float) -> None:
    mask = largest_salience(np.abs(wanted), part)
    assert mask.sum() == round(part * wanted.size)
    code = BINARIZERS["pb"].solve(Problem(wanted, None, 0, part))
    if code.salient is not None:
        gap = np.abs(code.floats() - wanted)[code.salient.mask]
        step = np.broadcast_to(code.salient.step[..., None], wanted.shape)[code.salient.mask]
        assert (gap <= step / 2 + 1e-9).all()
