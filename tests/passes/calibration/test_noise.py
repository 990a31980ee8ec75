"""Noise in place of data: reproducible, with the spectrum of photographs, and a network normalized on it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from intaglio.graph.errors import UsageError
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource
from intaglio.passes.calibration.activation_cache import Inputs, Store
from intaglio.passes.calibration.noise import noise_source, pink, renormalize_statistics
from tests.passes.parsed import parsed, run_plainly

NORMS = "float[{0}] g{1}, float[{0}] b{1}, float[{0}] m{1}, float[{0}] v{1}"


def image_net(shape: str = "N, 3, 16, 12") -> Model:
    """Normalized layers with a residual sum, and one normalization of the input itself."""
    rng = np.random.default_rng(0)
    norms: dict[str, np.ndarray] = {}
    for k, n in enumerate((3, 6, 8, 6)):
        norms |= {f"g{k}": rng.uniform(-2, 2, n), f"b{k}": rng.standard_normal(n)}
        norms |= {f"m{k}": rng.standard_normal(n) * 3, f"v{k}": rng.uniform(0.1, 5, n)}
    widths = ", ".join(NORMS.format(n, k) for k, n in enumerate((3, 6, 8, 6)))
    return parsed(
        f"float[{shape}] x",
        "float[N, 5] y",
        f"float[6, 3, 3, 3] w1, float[8, 6, 3, 3] w2, float[6, 8, 1, 1] w3, float[6, 5] w4, {widths}",
        """
        a = BatchNormalization(x, g0, b0, m0, v0)
        c1 = Conv <pads = [1, 1, 1, 1]> (a, w1) n1 = BatchNormalization(c1, g1, b1, m1, v1) r1 = Relu(n1)
        c2 = Conv <pads = [1, 1, 1, 1]> (r1, w2) n2 = BatchNormalization <epsilon = 0.001> (c2, g2, b2, m2, v2) r2 = Relu(n2)
        c3 = Conv(r2, w3) n3 = BatchNormalization(c3, g3, b3, m3, v3)
        s = Add(r1, n3) p = GlobalAveragePool(s) f = Flatten(p) y = Gemm(f, w4)
        """,
        **{name: value.astype(np.float32) for name, value in norms.items()},
    )


def plain(x: str) -> Model:
    return parsed(
        f"{x} x",
        "float y",
        "float[1] w",
        "y = Mul(x, w)" if x.startswith("float") else "z = Cast <to = 1> (x) y = Mul(z, w)",
    )


def everything(source: DataSource, size: int = 64) -> np.ndarray:
    return np.concatenate([next(iter(b.inputs.values())) for b in source.batches(size)])


@pytest.mark.parametrize("samples", [1, 31, 32, 100])
def test_a_seed_gives_the_same_bytes_whatever_the_batch(samples: int) -> None:
    model = plain("float[N, 3, 8, 6]")
    whole = everything(noise_source(model, samples=samples, seed=5))
    assert whole.shape == (samples, 3, 8, 6)
    assert whole.dtype == np.float32
    for size in (1, 7, 32, 33, 1000):
        source = noise_source(model, samples=samples, seed=5)
        assert everything(source, size).tobytes() == whole.tobytes()
        assert [b.count for b in source.batches(size)][:-1] == [size] * ((samples - 1) // size)
    other = everything(noise_source(model, samples=samples, seed=6))
    assert not np.array_equal(other, whole)


def test_fewer_samples_are_the_first_of_more() -> None:
    model = plain("float[N, 3, 8, 6]")
    few, many = (everything(noise_source(model, samples=n)) for n in (40, 90))
    np.testing.assert_array_equal(few, many[:40])


def test_samples_differ_and_inputs_differ() -> None:
    model = parsed("float[N, 2, 9] x, float[N, 2, 9] z", "float y", "", "y = Add(x, z)")
    (batch,) = noise_source(model, samples=48).batches(48)
    assert set(batch.inputs) == {"x", "z"}
    assert not np.array_equal(batch.inputs["x"], batch.inputs["z"])
    assert len(np.unique(batch.inputs["x"].reshape(48, -1), axis=0)) == 48


def test_a_fixed_batch_is_filled() -> None:
    batches = list(noise_source(plain("float[4, 3, 8, 6]"), samples=10).batches())
    assert [(b.count, len(b.inputs["x"])) for b in batches] == [(4, 4), (4, 4), (2, 4)]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 64, 20), (2, 128), (3, 8, 12, 10)])
def test_noise_is_standardized_and_bounded(shape: tuple[int, ...]) -> None:
    values = pink(np.random.default_rng(0), 256, shape)
    assert values.shape == (256, *shape)
    assert abs(values.mean()) < 0.15
    assert 0.7 < values.std() < 1.1
    assert np.abs(values).max() <= 2.5
    assert values.mean(axis=tuple(range(1, values.ndim))).std() > 0.2  # samples have their own brightness


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 256)])
def test_power_falls_with_frequency_as_in_photographs(shape: tuple[int, ...]) -> None:
    """Amplitude falls as 1/f, so power as 1/f²; clipping adds a little at high frequencies."""
    values = pink(np.random.default_rng(0), 64, shape)
    axes = tuple(range(2, values.ndim))
    power = np.square(np.abs(np.fft.fftn(values, axes=axes))).mean(axis=(0, 1))
    squares = np.square(np.fft.fftfreq(shape[-1]))
    frequency = np.sqrt(squares if len(axes) == 1 else squares[:, None] + squares)
    edges = np.array([0.02, 0.04, 0.08, 0.16, 0.32])
    bands = [power[(frequency >= a) & (frequency < b)].mean() for a, b in itertools.pairwise(edges)]
    falls = np.log2(np.array(bands[:-1]) / bands[1:])
    assert (falls > 1.2).all(), falls
    assert (falls < 2.8).all(), falls


def test_channels_share_most_of_what_they_show() -> None:
    values = pink(np.random.default_rng(0), 200, (3, 24, 24))
    inner = values - values.mean(axis=(2, 3), keepdims=True)
    together = np.corrcoef(inner.transpose(1, 0, 2, 3).reshape(3, -1))
    assert 0.6 < together[np.triu_indices(3, 1)].min() <= together[np.triu_indices(3, 1)].max() < 0.95


@pytest.mark.parametrize("shape", ["float[N, 16]", "float[N, 7, 1]", "float[N, 1, 1, 1]"])
def test_inputs_without_space_are_plain_noise(shape: str) -> None:
    values = everything(noise_source(plain(shape), samples=400))
    assert np.isfinite(values).all()
    assert abs(values.mean()) < 0.2
    assert 0.8 < values.std() < 1.2


def test_described_preprocessing_gets_bytes_as_of_images() -> None:
    model = plain("float[N, 3, 8, 6]")
    raw = everything(noise_source(model, samples=64, preprocess="scale=1"))
    assert raw.min() >= 0
    assert raw.max() <= 255
    np.testing.assert_array_equal(raw, np.round(raw))
    assert 100 < raw.mean() < 155
    scaled = everything(noise_source(model, samples=64, preprocess="scale=0.5"))
    np.testing.assert_allclose(scaled, raw / 2)


def test_preprocessing_that_moves_the_channels_gets_them_last() -> None:
    model = plain("float[N, 3, 8, 6]")
    first, last = (noise_source(model, samples=20, preprocess=f"scale=1{more}") for more in ("", ",layout=nchw"))
    np.testing.assert_array_equal(everything(first), everything(last))


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "bool"])
def test_inputs_that_are_no_floats_are_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="noise says nothing for the input 'x'") as error:
        noise_source(plain(f"{kind}[N, 3, 8, 8]"), samples=8)
    assert "--data" in error.value.fix


@pytest.mark.parametrize("kind", ["float", "float[N]", "float[1]"])
def test_one_number_a_sample_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="noise says nothing for the input 'x'") as error:
        noise_source(plain(kind), samples=8)
    assert "one number a sample is none" in error.value.why


@pytest.mark.parametrize("shape", ["N, 3, H, W", "N, 3, 8, W"])
def test_open_sizes_are_refused(shape: str) -> None:
    with pytest.raises(UsageError, match="open") as error:
        noise_source(plain(f"float[{shape}]"), samples=8)
    assert "--shape x:" in error.value.fix


def inputs_for(model: Model, store: Store, samples: int, size: int) -> Inputs:
    return Inputs([b.inputs for b in noise_source(model, samples=samples).batches(size)], store)


@pytest.mark.parametrize(("shape", "size"), [("N, 3, 16, 12", 64), ("N, 3, 16, 12", 17), ("25, 3, 16, 12", 25)])
def test_every_normalized_activation_gets_the_mean_and_deviation_that_its_parameters_say(shape: str, size: int) -> None:
    model = image_net(shape)
    with Store(1 << 24) as store:
        inputs = inputs_for(model, store, 100, size)
        changed, count = renormalize_statistics(model, inputs)
        feeds = [{"x": store.get(t)} for t in inputs.tickets["x"]]
    assert count == 4
    for k, name in enumerate(("a", "n1", "n2", "n3")):
        y = np.concatenate([run_plainly(changed, feed, [name])[name] for feed in feeds]).astype(np.float64)
        axes = (0, *range(2, y.ndim))
        np.testing.assert_allclose(y.mean(axis=axes), model.weights[f"b{k}"], atol=2e-3)
        np.testing.assert_allclose(y.std(axis=axes), np.abs(model.weights[f"g{k}"]), rtol=2e-3, atol=1e-4)


def test_statistics_do_not_depend_on_how_the_noise_is_cut() -> None:
    model = image_net()
    found = []
    for size in (100, 9):
        with Store(1 << 24) as store:
            changed, _ = renormalize_statistics(model, inputs_for(model, store, 100, size))
        norms = [n for n in changed.graph.node if n.op_type == "BatchNormalization"]
        found.append([changed.weights[n.input[k]] for n in norms for k in (3, 4)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_the_model_given_stays_as_it_was_and_only_statistics_differ() -> None:
    model = image_net()
    before = {name: w.tobytes() for name, w in model.weights.items()}, model.proto.SerializeToString()
    with Store(1 << 24) as store:
        changed, _ = renormalize_statistics(model, inputs_for(model, store, 40, 40))
    assert ({name: w.tobytes() for name, w in model.weights.items()}, model.proto.SerializeToString()) == before
    for old, new in zip(model.graph.node, changed.graph.node, strict=True):
        same = 3 if old.op_type == "BatchNormalization" else len(old.input)
        assert list(old.input)[:same] == list(new.input)[:same]
    for name in model.weights:
        np.testing.assert_array_equal(changed.weights[name], model.weights[name])


def test_statistics_that_two_normalizations_share_part_ways() -> None:
    model = parsed(
        "float[N, 4, 30] x",
        "float y",
        f"float[4, 4, 3] w1, {NORMS.format(4, 0)}",
        "a = BatchNormalization(x, g0, b0, m0, v0) c = Conv(a, w1) y = BatchNormalization(c, g0, b0, m0, v0)",
        v0=np.ones(4, dtype=np.float32),
    )
    with Store(1 << 24) as store:
        inputs = inputs_for(model, store, 64, 64)
        changed, count = renormalize_statistics(model, inputs)
        (x,) = (store.get(t) for t in inputs.tickets["x"])
    assert count == 2
    for name, value in run_plainly(changed, {"x": x}, ["a", "y"]).items():
        np.testing.assert_allclose(value.mean(axis=(0, 2)), model.weights["b0"], atol=1e-3, err_msg=name)
        np.testing.assert_allclose(value.std(axis=(0, 2)), np.abs(model.weights["g0"]), rtol=1e-3, err_msg=name)


def test_a_dead_channel_is_no_obstacle() -> None:
    model = parsed(
        "float[N, 4, 30] x",
        "float y",
        f"float[4, 4, 3] w1, {NORMS.format(4, 0)}",
        "c = Conv(x, w1) y = BatchNormalization(c, g0, b0, m0, v0)",
        w1=np.array([1, 0, 1, 0], dtype=np.float32)[:, None, None] * np.ones((4, 4, 3), dtype=np.float32),
        v0=np.ones(4, dtype=np.float32),
    )
    with Store(1 << 24) as store:
        inputs = inputs_for(model, store, 32, 32)
        changed, _ = renormalize_statistics(model, inputs)
        (x,) = (store.get(t) for t in inputs.tickets["x"])
    y = run_plainly(changed, {"x": x}, ["y"])["y"]
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y.mean(axis=(0, 2)), model.weights["b0"], atol=1e-3)


def test_a_model_without_normalization_has_nothing_to_fit() -> None:
    model = plain("float[N, 3, 8, 6]")
    with Store(1 << 20) as store:
        assert renormalize_statistics(model, inputs_for(model, store, 8, 8))[1] == 0
