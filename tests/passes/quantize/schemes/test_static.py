"""Static integers: every number in the file against its definition, outputs near the original's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.errors import NothingChanged, TargetUnreachable, UsageError
from intaglio.graph.io.load import load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.graph.nodes import attribute
from intaglio.measure.data.source import open_data
from intaglio.passes import Context
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.schemes import static
from intaglio.passes.quantize.targets import TARGETS
from intaglio.passes.simplify import with_biases
from tests.passes.parsed import data_for, parsed, run_plainly
from tests.passes.quantize.networks import NETWORKS, Network

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
BATCH_NORM = (
    "float[N, 3, 8, 8] x",
    "float[N, 4, 8, 8] y",
    "float[8, 3, 3, 3] w1, float[4, 8, 3, 3] w2, float[8] g1, float[8] s1, float[8] m1, float[8] v1, "
    "float[4] g2, float[4] s2, float[4] m2, float[4] v2",
    "a = Conv <pads = [1, 1, 1, 1]> (x, w1) n = BatchNormalization(a, g1, s1, m1, v1) r = Relu(n) "
    "b = Conv <pads = [1, 1, 1, 1]> (r, w2) y = BatchNormalization(b, g2, s2, m2, v2)",
)


def dequantizers(model: Model) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Integers, scales, zero points and axis of every constant that a DequantizeLinear reads, by what it makes."""
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in model.weights:
            integers, scale, zero = (model.weights[name] for name in node.input)
            found[node.output[0]] = integers, scale, zero, int(attribute(node, "axis", 1))
    return found


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_in_integers_and_outputs_stay_near(name: str, opset: int) -> None:
    network = NETWORKS[name]
    model = network.model(opset)
    done = Quantize().run(model, network.context(model))
    assert len(done.layers) == network.layers
    assert done.details["sqnr_db"]["y"] > 25, done.details["sqnr_db"]
    assert done.model.opset == opset


@pytest.mark.parametrize("target", list(TARGETS))
def test_targets_get_the_integers_they_want(target: str) -> None:
    network, wanted = NETWORKS["plain"], TARGETS[target]
    model = network.model()
    done = Quantize(target=target).run(model, network.context(model))
    kinds = {done.model.weights[n.input[2]].dtype for n in done.model.graph.node if n.op_type == "QuantizeLinear"}
    assert kinds == {np.dtype(np.int8 if wanted.activation.signed else np.uint8)}
    constants = dequantizers(done.model)
    weights = [q for q, *_ in constants.values() if q.dtype == np.int8]
    assert all(np.abs(q.astype(int)).max() <= wanted.weight.high for q in weights)
    assert any(q.dtype == np.int32 for q, *_ in constants.values()) == wanted.integer_bias
    if wanted.symmetric:
        assert all(not z.any() for *_, z, _ in constants.values())
    assert done.details["sqnr_db"]["y"] > 25


@pytest.mark.parametrize("name", ["plain", "depthwise", "grouped", "products"])
def test_nearest_weights_lie_within_half_a_step_and_reach_the_largest(name: str) -> None:
    network = NETWORKS[name]
    model = network.model()
    done = Quantize(method="nearest").run(model, network.context(model))
    constants = dequantizers(done.model)
    for layer in Layers(model):
        integers, scale, zero, axis = constants[layer.weight]
        weight = model.weights[layer.weight]
        shape = [-1 if a == axis % weight.ndim else 1 for a in range(weight.ndim)]
        others = tuple(a for a in range(weight.ndim) if a != axis % weight.ndim)
        np.testing.assert_allclose(scale, np.abs(weight).max(axis=others) / 127, rtol=1e-6)
        assert not zero.any()
        gap = np.abs(integers.astype(np.float64) * scale.reshape(shape) - weight)
        assert (gap <= 0.5 * scale.reshape(shape) * (1 + 1e-5)).all()


def test_activations_cover_the_range_of_the_data() -> None:
    network = NETWORKS["plain"]
    model, x = network.model(), network.samples()
    done = Quantize(ranges="minmax").run(model, network.context(model))
    values = run_plainly(model, {"x": x}, ["r", "s"])
    scales = {n.input[0]: n.input[1:] for n in done.model.graph.node if n.op_type == "QuantizeLinear"}
    for raw, name in (("a", "r"), ("b", "s")):
        scale, zero = (done.model.weights[p] for p in scales[raw])
        assert scale == pytest.approx(values[name].max() / 255, rel=1e-5)
        assert zero == 0
    scale, zero = (done.model.weights[p] for p in scales["x"])
    assert scale == pytest.approx((x.max() - x.min()) / 255, rel=1e-5)
    assert zero == round(-x.min() / scale)


def test_biases_have_the_scale_of_the_products() -> None:
    network = NETWORKS["plain"]
    model = network.model()
    done = Quantize().run(model, network.context(model))
    constants = dequantizers(done.model)
    made = {o: n for n in done.model.graph.node for o in n.output}
    for node in done.model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        reads = made[node.input[0]]
        if reads.op_type != "DequantizeLinear":  # a Flatten stands between
            reads = made[reads.input[0]]
        x_scale = done.model.weights[reads.input[1]]
        integers, scale, _, _ = constants[node.input[2]]
        assert integers.dtype == np.int32
        np.testing.assert_allclose(scale, constants[node.input[1]][1] * x_scale, rtol=1e-6)


def test_a_bias_beyond_32_bits_gets_a_larger_scale() -> None:
    network = NETWORKS["plain"]
    w1 = np.array(network.model().weights["w1"])
    w1[2] = 0
    w1[3] *= 1e-12
    b1 = np.full(8, 7.0, np.float32)
    model = dataclasses.replace(network, values={"w1": w1, "b1": b1}).model()
    done = Quantize().run(model, network.context(model))
    assert done.details["sqnr_db"]["y"] > 25
    integers, scale, _, _ = dequantizers(done.model)[next(n for n in dequantizers(done.model) if n.startswith("b1"))]
    np.testing.assert_allclose(integers.astype(np.float64) * scale, b1, rtol=1e-2)


def test_the_same_input_gives_the_same_bytes() -> None:
    network = NETWORKS["residual"]
    model = network.model()
    one, two = (Quantize().run(model, network.context(model)).model for _ in range(2))
    assert to_bytes(one) == to_bytes(two)


def test_the_input_is_left_as_it_was() -> None:
    network = NETWORKS["residual"]
    model = network.model()
    before = to_bytes(model)
    Quantize().run(model, network.context(model))
    assert to_bytes(model) == before


def test_constant_operands_become_integers_too() -> None:
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 3, 8, 8] y",
        "float[8, 4, 1, 1] w1, float[1, 8, 1, 1] k, float[3, 8, 1, 1] w2",
        "a = Conv(x, w1) m = Mul(a, k) y = Conv(m, w2)",
    )
    done = Quantize(ranges="minmax").run(model, NETWORKS["residual"].context(model))
    assert "k" not in done.model.weights
    assert done.details["sqnr_db"]["y"] > 25


def test_operands_of_a_concat_share_a_scale_where_that_costs_little() -> None:
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 3, 8, 8] y",
        "float[8, 4, 1, 1] w1, float[8, 4, 1, 1] w2, float[3, 16, 1, 1] w3",
        "a = Conv(x, w1) b = Conv(x, w2) c = Concat <axis = 1> (a, b) y = Conv(c, w3)",
    )
    done = Quantize(ranges="minmax").run(model, NETWORKS["residual"].context(model))
    scales = {
        n.output[0]: done.model.weights[n.input[1]] for n in done.model.graph.node if n.op_type == "DequantizeLinear"
    }
    assert scales["a"] == scales["b"] == scales["c"]


def test_excluded_layers_stay_in_float() -> None:
    network = NETWORKS["plain"]
    model = network.model()
    done = Quantize(exclude=("b",)).run(model, network.context(model))
    assert len(done.layers) == 2
    assert done.details["skipped"]["b"] == "left out by --include or --exclude"
    assert any(np.array_equal(w, model.weights["w2"]) for w in done.model.weights.values())


def test_nothing_to_quantize_is_an_error_with_the_reason() -> None:
    model = parsed("float[N, 4] x", "float[N, 4] y", "float[1, 4] k", "y = Add(x, k)")
    with pytest.raises(NothingChanged, match="nothing was quantized") as caught:
        Quantize(scheme="dynamic").run(model, Context())
    assert "no layers" in caught.value.why


def test_without_data_and_statistics_it_says_what_is_missing() -> None:
    model = NETWORKS["plain"].model()
    with pytest.raises(UsageError, match="not known without data") as caught:
        Quantize().run(model, Context())
    assert "--data" in caught.value.fix


@pytest.mark.parametrize("seed", [0, 1])
def test_without_data_batch_normalization_tells_the_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for k, width in ((1, 8), (2, 4)):
        values |= {
            f"g{k}": rng.uniform(0.5, 1.5, width).astype(np.float32),
            f"s{k}": rng.normal(0, 0.5, width).astype(np.float32),
            f"m{k}": np.zeros(width, np.float32),
            f"v{k}": np.full(width, 1.0, np.float32),
        }
    model = Network(*BATCH_NORM, (3, 8, 8), 2, values).model()
    done = Quantize(input_ranges=(("x", -4.0, 4.0),)).run(model, Context())
    x = rng.standard_normal((32, 3, 8, 8)).astype(np.float32)
    exact, near = (run_plainly(m, {"x": x}, ["y"])["y"] for m in (model, done.model))
    assert np.square(exact - near).mean() < 1e-2 * exact.var()
    assert len(done.layers) == 2
    with pytest.raises(UsageError, match="range of the input 'x' is not known"):
        Quantize().run(model, Context())


def test_bits_of_choice_are_for_study() -> None:
    network = NETWORKS["residual"]
    model = network.model()
    done = {s: Quantize(scheme=s).run(model, network.context(model)) for s in ("w4a8", "w8a4", "w4a16")}
    assert not any(d.details["accelerated"] for d in done.values())
    assert done["w4a16"].details["sqnr_db"]["y"] >= done["w4a8"].details["sqnr_db"]["y"] - 1
    rectified = run_plainly(done["w8a4"].model, {"x": network.samples()}, ["r"])["r"]
    assert len(np.unique(rectified)) <= 16
    with pytest.raises(UsageError, match="cannot be stored"):
        Quantize(scheme="w1a8")


def test_under_a_limit_of_bytes_integers_of_fewer_bits_are_computed_in_eight() -> None:
    model = load(EXAMPLES / "digits.onnx")
    context = Context(data=open_data(str(EXAMPLES / "digits_calib.npz"), model, samples=128))
    plain, small = (Quantize(scheme="int8", size=size).run(model, context) for size in (None, 0.2))
    assert small.details["runtime"]["integer"] == plain.details["runtime"]["integer"]
    assert small.details["runtime"]["conversions"] == plain.details["runtime"]["conversions"]
    assert small.after.size <= 0.2 * small.before.size < plain.after.size
    assert {"int2", "int4"} & {one["weights"] for one in small.layers}
    assert small.details["sqnr_db"]["logits"] > 10
    with pytest.raises(UsageError, match="calibration data"):
        Quantize(scheme="int8", size=0.2).run(model, Context())
    with pytest.raises(TargetUnreachable, match="lowest reachable is 0"):
        Quantize(scheme="int8", size=0.02).run(model, context)


def test_biases_follow_the_means_that_rounding_moves() -> None:
    network = NETWORKS["plain"]
    model, x = with_biases(network.model()), network.samples(256)
    done = Quantize(scheme="w4a8", method="nearest").run(model, network.context(model, 256))
    exact, near = (run_plainly(m, {"x": x}, ["y"])["y"] for m in (model, done.model))
    assert np.abs((near - exact).mean(axis=0)).max() < 0.2 * np.abs(near - exact).std()


@pytest.mark.parametrize("shape", ["N", "8, 3"])
def test_a_product_of_matrices_with_a_bias_is_one_integer_kernel(shape: str) -> None:
    model = parsed(
        f"float[{shape}, 12] x",
        f"float[{shape}, 4] y",
        "float[12, 16] w1, float[16] b1, float[16, 4] w2, float[4] b2",
        "a = MatMul(x, w1) c = Add(a, b1) r = Relu(c) d = MatMul(r, w2) y = Add(b2, d)",
    )
    rows = (64, 12) if shape == "N" else (64, 3, 12)
    x = np.random.default_rng(0).standard_normal(rows).astype(np.float32)
    done = Quantize().run(model, Context(data=data_for(model, x=x)))
    assert done.details["runtime"]["integer"] == {"QGemm": 2}
    assert done.details["sqnr_db"]["y"] > 25


def test_a_weight_read_both_ways_round_is_rounded_for_each() -> None:
    model = parsed(
        "float[N, 12] x",
        "float[N, 12] y",
        "float[12, 16] w",
        "a = MatMul(x, w) r = Relu(a) y = Gemm <transB = 1> (r, w)",
    )
    x = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    for scheme in ("int8", "w4"):
        done = Quantize(scheme=scheme).run(model, Context(data=data_for(model, x=x)))
        assert done.details["sqnr_db"]["y"] > (25 if scheme == "int8" else 12)


def deep(blocks: int) -> Model:
    """A residual chain of two convolutions a block, with biases."""
    kinds = [f"float[4, 4, 3, 3] w{k}, float[4] b{k}, float[4, 4, 3, 3] v{k}, float[4] c{k}" for k in range(blocks)]
    body = [
        f"p{k} = Conv <pads = [1, 1, 1, 1]> (x{k}, w{k}, b{k}) q{k} = Relu(p{k}) "
        f"u{k} = Conv <pads = [1, 1, 1, 1]> (q{k}, v{k}, c{k}) s{k} = Add(x{k}, u{k}) x{k + 1} = Relu(s{k})"
        for k in range(blocks)
    ]
    return parsed("float[N, 4, 6, 6] x0", f"float[N, 4, 6, 6] x{blocks}", ", ".join(kinds), " ".join(body))


def test_deep_noisy_networks_are_walked_for_their_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deep(static.DEEP // 2)
    inputs = np.random.default_rng(1).random((64, 4, 6, 6), np.float32)
    context = Context(data=data_for(model, x0=inputs))

    def sqnr(clean: float) -> float:
        monkeypatch.setattr(static, "CLEAN", clean)
        return min(Quantize().run(model, context).details["sqnr_db"].values())

    walked, by_means = sqnr(300.0), sqnr(0.0)
    assert walked > by_means + 0.2, (walked, by_means)
