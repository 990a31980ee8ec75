"""Patterns and densities hold what they promise, whatever the weights are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.errors import UsageError
from intaglio.passes import Context
from intaglio.passes.sparsify import Sparsify
from intaglio.passes.sparsify.densities.density import DENSITIES, Spread, counts_of
from intaglio.passes.sparsify.patterns import pattern_named
from tests.passes.parsed import parsed

SHAPES = st.lists(
    st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3])).map(lambda s: (s[0], s[1], s[2], s[2])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40)
@given(SHAPES, st.floats(0.02, 1.0), st.sampled_from(sorted(DENSITIES.builtin)), st.integers(0, 9))
def test_all_together_keep_what_was_asked_and_no_layer_runs_empty(
    shapes: list[tuple[int, ...]], density: float, scheme: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.random(shape) * 10 ** rng.uniform(-3, 3) for shape in shapes]
    steep = [10 ** rng.uniform(-3, 3) for _ in shapes]

    def losses(densities: Sequence[float]) -> list[np.ndarray]:
        return [each * (1 - np.array(densities)) ** 2 for each in steep]

    counts = counts_of(DENSITIES[scheme], Spread(shapes, density, lambda: scores, losses))
    sizes = [int(np.prod(shape)) for shape in shapes]
    assert all(1 <= n <= size for n, size in zip(counts, sizes, strict=True))
    assert abs(sum(counts) - density * sum(sizes)) <= max(0.001 * density * sum(sizes), len(sizes))


def test_schemes_favour_what_they_say() -> None:
    shapes = [(8, 8, 3, 3), (64, 64, 3, 3)]
    none = Spread(shapes, 0.2, lambda: [np.ones(s) * k for k, s in enumerate(shapes)], lambda d: [])
    share = {
        name: np.array(counts_of(DENSITIES[name], none)) / none.sizes
        for name in ("uniform", "erk", "balanced", "pyramid", "global")
    }
    assert share["uniform"] == pytest.approx([0.2, 0.2], abs=1e-3)
    assert share["erk"][0] > share["erk"][1]
    assert share["balanced"][0] == 1
    assert share["pyramid"][1] == pytest.approx(share["pyramid"][0] ** 2, rel=0.01)
    assert share["global"][0] == pytest.approx(0.04, rel=0.1)  # the floor: scores leave it nothing


@given(st.sampled_from([(1, 4), (2, 4), (3, 4), (64, 256), (5, 7)]), st.integers(1, 3), st.integers(0, 99))
def test_blocks_keep_exactly_n_of_m(pair: tuple[int, int], rows: int, seed: int) -> None:
    n, m = pair
    scores = np.random.default_rng(seed).integers(0, 3, (2, rows, 3 * m)).astype(float)  # with many ties
    mask = pattern_named(f"{n}:{m}").keep(scores, round(scores.size * n / m))
    assert (mask.reshape(-1, m).sum(axis=1) == n).all()
    for block, kept in zip(scores.reshape(-1, m), mask.reshape(-1, m), strict=True):
        assert block[kept].min() >= block[~kept].max()


@pytest.mark.parametrize("nodes", ["y = Conv(x, w)", "y = MatMul(x, w)"])
def test_blocks_in_memory_keep_exactly_n_of_what_the_file_holds_in_a_row(nodes: str) -> None:
    shapes = (
        ("float[N, 8, 5, 5] x", "float[6, 8, 3, 3] w") if "Conv" in nodes else ("float[N, 24] x", "float[24, 10] w")
    )
    model = parsed(shapes[0], "float y", shapes[1], nodes)
    made = Sparsify(pattern="memory:n=3,m=16", form="dense", verify=False).run(model, Context()).model
    weight = next(w for w in made.weights.values() if w.shape == model.weights["w"].shape)
    assert ((weight.reshape(-1, 16) != 0).sum(axis=1) == 3).all()
    for old, new in zip(model.weights["w"].reshape(-1, 16), weight.reshape(-1, 16), strict=True):
        assert np.abs(old[new != 0]).min() >= np.abs(old[new == 0]).max()


@given(st.integers(2, 8), st.integers(1, 20), st.integers(0, 99))
def test_runs_stay_or_go_together(size: int, count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((1, 4, 6 * size))
    mask = pattern_named(f"block:size={size}").keep(scores, count * size)
    assert mask.sum() == count * size
    assert set(mask.reshape(-1, size).sum(axis=1)) <= {0, size}


def test_blocks_that_keep_nothing_or_all_are_refused() -> None:
    for spec in ("0:4", "4:4", "5:4"):
        with pytest.raises(UsageError, match="keeps nothing, or all"):
            pattern_named(spec)
