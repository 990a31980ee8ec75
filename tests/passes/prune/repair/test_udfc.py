"""Restoration: the closed form solves its least squares, and duplicates are replaced by what they duplicate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.coupling import Removal, analyse, remove
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.calibration.normal.restore import restore
from intaglio.passes.prune import CRITERIA, REPAIRS, PruneChannels
from intaglio.passes.prune.repair.repair import with_weights
from tests.passes.parsed import parsed

BN = "float[8] g, float[8] b, float[8] m, float[8] v"
GONE = np.array([0, 3])


def gram_of(seed: int, size: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((size, size + 2))
    return np.asarray(rows @ rows.T)


@given(st.integers(0, 1000), st.integers(2, 9), st.floats(0.001, 3))
def test_restoring_minimizes_what_it_says(seed: int, size: int, ridge: float) -> None:
    """||f_j - sum s_i f_i||^2 + ridge |s|^2 has no slope there."""
    gram, rng = gram_of(seed, size), np.random.default_rng(seed)
    damaged = np.zeros(size, dtype=bool)
    damaged[rng.choice(size, rng.integers(1, size), replace=False)] = True
    shares = restore(gram, damaged, ~damaged, ridge=ridge)
    inner, across = gram[np.ix_(~damaged, ~damaged)], gram[np.ix_(~damaged, damaged)]
    slope = inner @ shares - across + ridge * np.trace(inner) / len(inner) * shares
    np.testing.assert_allclose(slope, 0, atol=1e-8 * np.abs(gram).max())


@given(st.integers(0, 1000), st.integers(2, 9))
def test_restoring_is_never_worse_than_leaving_out(seed: int, size: int) -> None:
    gram = gram_of(seed, size)
    damaged = np.arange(size) < size // 2 + 1 if size > 2 else np.array([True, False])
    shares = restore(gram, damaged, ~damaged)
    inner, across = gram[np.ix_(~damaged, ~damaged)], gram[np.ix_(~damaged, damaged)]
    gained = across.T @ shares + shares.T @ across - shares.T @ inner @ shares
    assert np.linalg.eigvalsh(gained).min() >= -1e-9


def test_a_quantized_filter_in_the_basis_is_restored_from_itself() -> None:
    rng = np.random.default_rng(0)
    filters = rng.standard_normal((6, 30))
    rounded = np.round(filters * 2) / 2
    rows = np.concatenate([filters, rounded])
    damaged = np.arange(12) < 6
    shares = restore(rows @ rows.T, damaged, ~damaged, ridge=1e-6)
    assert np.abs(np.diag(shares) - 1).max() < 0.1
    left = np.linalg.norm(filters - shares.T @ rounded)
    assert left < np.linalg.norm(filters - rounded)


def test_nothing_is_restored_from_what_does_not_vary() -> None:
    damaged = np.array([True, False, False])
    np.testing.assert_array_equal(restore(np.diag([1.0, 0.0, 0.0]), damaged, ~damaged), 0)


@given(st.integers(0, 1000), st.integers(3, 9), st.floats(0, 1e-3))
def test_channels_that_hardly_vary_count_for_no_more_than_they_do(seed: int, size: int, tiny: float) -> None:
    """Of large means the covariances are rounding, which is no product of anything."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((size, size))
    gram = (noise + noise.T) * tiny
    np.fill_diagonal(gram, rng.random(size) * tiny**2 + 1e-40)
    damaged = np.arange(size) < size // 2
    shares = restore(gram, damaged, ~damaged)
    spread = np.sqrt(np.diag(gram)[~damaged].mean() / np.diag(gram)[damaged])
    assert np.isfinite(shares).all()
    assert (np.abs(shares) * spread).max() <= size * 10 * 10, "as many as there are, over the ridge"


def duplicates(text: str = "c = Conv(r, k, o)") -> Model:
    """Channels 0 and 3 are those of 1 and 2 again, scaled."""
    rng = np.random.default_rng(1)
    w, g, b = rng.standard_normal((8, 3, 3, 3)), rng.uniform(0.5, 2, 8), rng.standard_normal(8)
    m, v = rng.standard_normal(8), rng.uniform(20, 30, 8)
    for copy, of in ((0, 1), (3, 2)):
        w[copy], m[copy], v[copy] = w[of], m[of], v[of]
        g[copy], b[copy] = 0.7 * g[of], 0.7 * b[of]
    values = {name: a.astype(np.float32) for name, a in {"w": w, "g": g, "b": b, "m": m, "v": v}.items()}
    nodes = f"a = Conv(x, w) n = BatchNormalization(a, g, b, m, v) r = Relu(n) {text} y = GlobalAveragePool(c)"
    weights = f"float[8, 3, 3, 3] w, {BN}, float[6, 8, 3, 3] k, float[6] o"
    return parsed("float[N, 3, 8, 8] x", "float[N, 6, 1, 1] y", weights, nodes, **values)


def removal_of(model: Model) -> Removal:
    coupling = analyse(model)
    (number,) = [k for k, g in enumerate(coupling.groups) if g.prunable and g.channels == 8]
    removed = coupling.nothing()
    removed[coupling.groups[number].atoms[GONE]] = True
    return Removal(coupling, removed)


def error(model: Model, repair: str) -> float:
    removal = removal_of(model)
    small = remove(with_weights(removal, REPAIRS[repair](removal, Context()).weights))
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    before, after = (run(open_session(m), {"x": x})["y"].astype(np.float64) for m in (model, small))
    return float(np.square(after - before).mean() / before.var())


@pytest.mark.parametrize("text", ["c = Conv(r, k, o)", "p = AveragePool <kernel_shape = [2, 2]> (r) c = Conv(p, k, o)"])
def test_duplicates_are_replaced_by_what_they_duplicate(text: str) -> None:
    model = duplicates(text)
    assert error(model, "udfc") < 0.1 * error(model, "absorb") < 0.1 * error(model, "none")


def test_a_weight_that_others_read_is_not_changed() -> None:
    """The second use reads other channels, so only the bias may follow."""
    model = duplicates("c = Conv(r, k, o)")
    removal = removal_of(model)
    found = REPAIRS["udfc"](removal, Context())
    assert found.details["restored"] == 1
    assert set(found.weights) == {"k", "o"}
    shared = duplicates("d = Conv(r, k, o) e = Conv(r, k) c = Add(d, e)")
    found = REPAIRS["udfc"](removal_of(shared), Context())
    assert found.details["restored"] == 0
    assert "k" not in found.weights


def test_grouped_layers_restore_within_their_groups() -> None:
    """A place goes from both halves, and each half has a duplicate of it."""
    rng = np.random.default_rng(1)
    weights = f"float[8, 3, 3, 3] w, {BN}, float[6, 4, 3, 3] k, float[6] o"
    nodes = (
        "a = Conv(x, w) n = BatchNormalization(a, g, b, m, v) r = Relu(n) c = Conv <group = 2> (r, k, o) y = Relu(c)"
    )
    w = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    w[[1, 5]] = w[[0, 4]]
    values = {name: np.ones(8, dtype=np.float32) for name in "gbmv"} | {"v": np.full(8, 27, dtype=np.float32)}
    model = parsed("float[N, 3, 8, 8] x", "float[N, 6, 4, 4] y", weights, nodes, w=w, **values)
    pruned = PruneChannels(criterion="random", target="channels", keep=0.75, repair="udfc").run(model, Context(seed=1))
    assert pruned.proof is not None
    assert pruned.details["repair"]["restored"] == 1


def test_the_criterion_prunes_with_its_own_repair(shared_data: Path) -> None:
    model = load(shared_data / "resnet20-bn.onnx")
    assert CRITERIA["udfc"].repair == "udfc"
    pruned = PruneChannels(criterion="udfc", keep=0.9).run(model, Context())
    assert pruned.details["repair"]["restored"] > 0
    folded = PruneChannels(criterion="udfc", keep=0.9).run(load(shared_data / "resnet20.onnx"), Context())
    assert any("udfc is not possible" in note for note in folded.notes)
