"""Small graphs that calibrated pruning once stumbled over."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import PruneChannels
from intaglio.graph.errors import BadModel
from intaglio.graph.index import index_of
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes import Change, Context
from intaglio.passes.calibration.activation_cache import ActivationCache, Inputs, Store
from intaglio.passes.calibration.noise import noise_source
from intaglio.passes.calibration.targets import ReconstructionTargets
from tests.passes.parsed import data_for, parsed, run_plainly


def f(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def obspa(model: Model, **x: np.ndarray) -> Change:
    return PruneChannels(criterion="obspa", keep=0.6).run(model, Context(data=data_for(model, **x)))


def test_a_name_given_twice_is_held_once() -> None:
    m = parsed("float[N, 4] x", "float[N, 4] y", "float[4, 4] w", "h = MatMul(x, w) y = Relu(h)")
    x = f(6, 4)
    with Store(1 << 20) as store:
        cache = ActivationCache(m, Inputs([{"x": x[:4]}, {"x": x[4:]}], store))
        cache.hold(["h", "h"])
        got = np.concatenate([b["h"] for b in cache.batches(["h"])])
    np.testing.assert_allclose(got, run_plainly(m, {"x": x}, ["h"])["h"], atol=1e-5)


def test_identity_shortcut_around_one_layer() -> None:
    m = parsed(
        "float[N, 4, 6] x",
        "float[N, 5, 6] y",
        "float[8, 4, 1] w, float[8, 8, 1] w2, float[5, 8, 1] w3",
        "a = Conv(x, w) r = Relu(a) b = Conv(r, w2) s = Add(b, r) y = Conv(s, w3)",
    )
    obspa(m, x=f(200, 4, 6))


def test_bilinear_pooling() -> None:
    m = parsed(
        "float[N, 3, 6] x",
        "float[N, 5] y",
        "float[4, 3, 1] w1, float[16, 5] w2",
        "a = Conv(x, w1) t = Transpose <perm = [0, 2, 1]> (a) g = MatMul(a, t) q = Flatten(g) y = Gemm(q, w2)",
    )
    obspa(m, x=f(96, 3, 6))


def test_a_layer_that_leads_nowhere() -> None:
    m = parsed(
        "float[N, 3, 6] x",
        "float[N, 5] y",
        "float[4, 3, 1] w1, float[6, 4, 1] w2, float[4, 5] head",
        "a = Conv(x, w1) dead = Conv(a, w2) p = GlobalAveragePool(a) q = Flatten(p) y = Gemm(q, head)",
    )
    obspa(m, x=f(96, 3, 6))


def test_a_vector_times_a_matrix() -> None:
    m = parsed(
        "float[N, 4] x",
        "float[N, 5] y",
        "float[4, 8] w, float[8, 6] w2, float[6, 5] w3, float[6, 5] w5",
        "a = MatMul(x, w) r = Relu(a) h = MatMul(r, w2) s = ReduceMean <axes = [0], keepdims = 0> (h) t = MatMul(s, w5) "
        "u = MatMul(h, w3) y = Add(u, t)",
    )
    obspa(m, x=f(96, 4))


SUMS_OVER_SAMPLES = {
    "mean first, kept as one row": "s = ReduceMean <axes = [0]> (h) t = MatMul(s, w5) u = MatMul(h, w3) y = Add(u, t)",
    "mean last, kept as one row": "u = MatMul(h, w3) s = ReduceMean <axes = [0]> (h) t = MatMul(s, w5) y = Add(t, u)",
    "mean last, as a vector": "u = MatMul(h, w3) s = ReduceMean <axes = [0], keepdims = 0> (h) t = MatMul(s, w5) "
    "y = Add(t, u)",
    "two means": "s = ReduceMean <axes = [0]> (h) t = MatMul(s, w5) u = MatMul(s, w3) y = Add(u, t)",
    "mean through a rectifier": "s = ReduceMean <axes = [0]> (h) t = MatMul(s, w5) u = MatMul(h, w3) a2 = Add(u, t) "
    "y = Relu(a2)",
    "largest": "s = ReduceMax <axes = [0]> (h) t = Gemm(s, w5) u = MatMul(h, w3) y = Add(u, t)",
    "no sample alone": "s = ReduceMean <axes = [0]> (h) u = MatMul(s, w3) v = Relu(u) y = MatMul(v, w6)",
}


@pytest.mark.parametrize("end", SUMS_OVER_SAMPLES.values(), ids=SUMS_OVER_SAMPLES)
@pytest.mark.parametrize("repair", ["none", "refit"])
def test_layers_on_sums_over_samples_have_rows_of_their_own(end: str, repair: str) -> None:
    m = parsed(
        "float[N, 4] x",
        "float y",
        "float[4, 8] w, float[8, 6] w2, float[6, 5] w3, float[6, 5] w5, float[5, 5] w6",
        f"a = MatMul(x, w) r = Relu(a) h = MatMul(r, w2) {end}",
    )
    context = Context(data=data_for(m, x=f(96, 4)))
    pruned = PruneChannels(criterion="obspa" if repair == "none" else "l2", repair=repair, keep=0.6).run(m, context)
    assert "the refitted original" in pruned.proved


def test_an_image_that_all_samples_share() -> None:
    m = parsed(
        "float[N, 3, 6, 6] x",
        "float[N, 5, 6, 6] y",
        "float[8, 3, 3, 3] w, float[5, 8, 3, 3] w2, float[5, 8, 1, 1] w3",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w) r = Relu(a) s = ReduceMean <axes = [0]> (r) "
        "t = Conv <pads = [1, 1, 1, 1]> (s, w2) u = Conv(r, w3) y = Add(u, t)",
    )
    obspa(m, x=f(48, 3, 6, 6))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mean_over_samples_or_time_added_to_all(axis: int) -> None:
    """It has fewer rows than what it is added to."""
    m = parsed(
        "float[N, 7, 4] x",
        "float y",
        "float[4, 8] w, float[8, 5] w2, float[8, 5] w3",
        "a = MatMul(x, w) r = Relu(a) "
        f"s = ReduceMean <axes = [{axis}]> (r) t = MatMul(s, w2) u = MatMul(r, w3) y = Add(u, t)",
    )
    obspa(m, x=f(64, 7, 4))


def test_samples_behind_time() -> None:
    m = parsed(
        "float[N, 7, 4] x",
        "float y",
        "float[4, 8] w, float[8, 5] w2, float[8, 5] w3",
        "z = Transpose <perm = [1, 0, 2]> (x) a = MatMul(z, w) r = Relu(a) t = MatMul(r, w2) u = MatMul(r, w3) "
        "v = Relu(t) y = Add(u, v)",
    )
    obspa(m, x=f(64, 7, 4))


def test_shapes_that_follow_from_values_are_told() -> None:
    """Removed channels change which rows ``NonZero`` finds, so rows of both networks cannot be compared."""
    m = parsed(
        "float[N, 4] x",
        "float y",
        "float[4, 8] w, float[8, 6] w2, float[6, 5] w3, int64[1] last, int64 zero",
        "a = MatMul(x, w) r = Relu(a) h = MatMul(r, w2) q = ReduceSum(h, last) p = Relu(q) i = NonZero(p) "
        "j = Gather <axis = 0> (i, zero) k = Gather <axis = 0> (h, j) y = MatMul(k, w3)",
        last=np.array([1]),
        zero=np.array(0),
    )
    with pytest.raises(BadModel, match="other shapes than the original"):
        obspa(m, x=f(96, 4))


def test_a_computed_bias_is_not_no_bias() -> None:
    m = parsed(
        "float[N, 4, 6] x",
        "float[N, 5, 6] y",
        "float[8, 4, 1] w, float[8] b1, float[5, 8, 1] w2, float[5] b0",
        "b = Exp(b0) a = Conv(x, w, b1) r = Relu(a) y = Conv(r, w2, b)",
    )
    assert "y" not in Layers(m).by_output
    x = f(96, 4, 6)
    y, got = (run_plainly(q, {"x": x}, ["y"])["y"] for q in (m, obspa(m, x=x).model))
    assert np.square(y - got).mean() < y.var()


def test_a_column_for_each_row_is_no_bias() -> None:
    m = parsed("float[5, 4] x", "float[5, 5] y", "float[4, 5] w, float[5, 1] c", "y = Gemm(x, w, c)")
    assert not len(Layers(m))


def test_readers_inside_subgraphs_have_no_limits() -> None:
    m = parsed(
        "float[N, 4, 6] x, bool c",
        "float y, float z",
        "float[4, 4, 1] w0",
        "a = Conv(x, w0) y = Relu(a) z = If (c) <then_branch = t () => (float p) { p = Neg(a) }, "
        "else_branch = e () => (float q) { q = Tanh(a) }>",
    )
    layers = Layers(m)
    assert ReconstructionTargets(m, index_of(m).shapes, layers).of(next(iter(layers))).activation_bounds is None


def test_noise_for_channels_last_models() -> None:
    m = parsed("float[N, 8, 6, 3] x", "float y", "float[1] w", "y = Mul(x, w)")
    noise_source(m, samples=8, preprocess="scale=1/255,layout=nhwc")
