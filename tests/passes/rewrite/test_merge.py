"""Merging: the numpy definition of sparse task vectors, masks that do not meet, blocks that hold exactly n."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.errors import BadModel, NothingChanged
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.blocks import highest_in_blocks
from intaglio.passes.rewrite.merge import merge
from tests.passes.parsed import parsed

BN = "float[5] g, float[5] b, float[5] m, float[5] v"


def network(**values: np.ndarray) -> Model:
    nodes = "a = Conv(x, w) n = BatchNormalization(a, g, b, m, v) y = Relu(n)"
    usual = {"v": np.ones(5, np.float32)}
    return parsed(
        "float[N, 3, 6, 6] x", "float[N, 5, 4, 4] y", f"float[5, 3, 3, 3] w, {BN}", nodes, **{**usual, **values}
    )


def states(seed: int, count: int) -> tuple[Model, list[Model]]:
    rng, base = np.random.default_rng(seed), network()
    tuned = []
    for _ in range(count):
        one = base.copy()
        for name, weight in base.weights.items():
            one.put(name, (weight + rng.standard_normal(weight.shape) * 0.1).astype(np.float32))
        one.put("v", np.abs(one.weights["v"]))
        tuned.append(one)
    return base, tuned


@given(st.integers(0, 99), st.sampled_from([(1, 4), (2, 4), (3, 16), (64, 256)]), st.booleans())
def test_it_is_what_its_definition_says(seed: int, pattern: tuple[int, int], apart: bool) -> None:
    """One block after the other, sorted by plain Python."""
    base, tuned = states(seed, 3)
    n, m = pattern
    made = merge(base, tuned, n=n, m=m, scales=(1.0, 0.5, 0.7), apart=apart)
    for name, old in base.weights.items():
        flat = old.reshape(-1).astype(np.float64)
        total, free = flat.copy(), np.ones(flat.size)
        for one, scale in zip(tuned, (1.0, 0.5, 0.7), strict=True):
            vector = (one.weights[name].reshape(-1) - flat) * (free if apart else 1)
            for start in range(0, flat.size, m):
                block = range(start, min(start + m, flat.size))
                stay = n if len(block) == m else int(np.ceil(n * len(block) / m))
                for i in sorted(block, key=lambda i: -abs(vector[i]))[:stay]:
                    total[i] += scale * vector[i]
                    free[i] = 0 if vector[i] else free[i]
        if name == "v":
            total = np.maximum(total, 0)
        np.testing.assert_allclose(made.model.weights[name].reshape(-1), total, rtol=1e-5, atol=1e-7)


def test_apart_every_number_is_that_of_one_model_or_of_the_base() -> None:
    base, tuned = states(0, 3)
    made = merge(base, tuned, n=1, m=4)
    w = made.model.weights["w"]
    same = np.stack([w == one.weights["w"] for one in (base, *tuned)])
    assert (np.isclose(np.stack([one.weights["w"] for one in (base, *tuned)]), w, rtol=1e-6).any(axis=0)).all()
    assert same[0].any()
    changed = [np.count_nonzero(np.isclose(w, one.weights["w"], rtol=1e-6)) for one in tuned]
    assert min(changed) >= w.size // 4 - 1


def test_all_of_one_model_is_that_model() -> None:
    base, tuned = states(1, 1)
    made = merge(base, tuned, n=4, m=4)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    wanted, found = (run(open_session(one), {"x": x})["y"] for one in (tuned[0], made.model))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert made.kept == made.changed


@given(st.integers(0, 99), st.integers(1, 300), st.integers(1, 7), st.integers(0, 9))
def test_every_block_holds_exactly_n(seed: int, size: int, n: int, more: int) -> None:
    scores, m = np.random.default_rng(seed).standard_normal(size), n + more
    kept = highest_in_blocks(scores, n, m)
    for start in range(0, size, m):
        block, mask = scores[start : start + m], kept[start : start + m]
        stay = n if len(block) == m else -(-n * len(block) // m)
        assert mask.sum() == stay
        assert not mask.any() or mask.all() or block[mask].min() >= block[~mask].max()


def test_what_is_no_state_of_the_network_is_refused() -> None:
    base, (other,) = states(0, 1)
    with pytest.raises(NothingChanged):
        merge(base, [base])
    wide = parsed("float[N, 3, 6, 6] x", "float[N, 5, 6, 6] y", "float[5, 3, 1, 1] w", "y = Conv(x, w)")
    with pytest.raises(BadModel, match="no other state"):
        merge(base, [wide])
    odd = other.copy()
    odd.put("w", np.zeros((5, 3, 2, 2), np.float32))
    with pytest.raises(BadModel) as told:
        merge(base, [odd])
    assert "constant 'w'" in str(told.value.why)
