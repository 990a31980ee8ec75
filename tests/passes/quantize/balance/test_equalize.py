"""Equalized layers compute what they did, with channels of equal ranges on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.calibration.normal.moments import moments
from intaglio.passes.quantize.balance.bias_absorption import absorb_high_biases
from intaglio.passes.quantize.balance.equalize import equalize
from intaglio.passes.quantize.balance.paths import Graph, Pair
from intaglio.passes.simplify import fold_batch_norm
from tests.passes.parsed import parsed, run_plainly

LAYERS = {
    "dense": ("{o}, {i}, 3, 3", "Conv<pads = [1, 1, 1, 1]>"),
    "pointwise": ("{o}, {i}, 1, 1", "Conv"),
    "grouped": ("{o}, {h}, 3, 3", "Conv<group = 2, pads = [1, 1, 1, 1]>"),
    "depthwise": ("{i}, 1, 3, 3", "Conv<group = {i}, pads = [1, 1, 1, 1]>"),
    "multiplied": ("{d}, 1, 3, 3", "Conv<group = {i}, pads = [1, 1, 1, 1]>"),
}
BETWEEN = {
    "nothing": "",
    "relu": "{y} = Relu({x})",
    "leaky": "{y} = LeakyRelu<alpha = 0.2>({x})",
    "prelu": "{y} = PRelu({x}, slope{k})",
    "max": "{y} = MaxPool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>({x})",
    "average": "t{k} = Relu({x}) {y} = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(t{k})",
    "pad": "{y} = Pad({x}, amounts)",
    "turned": "t{k} = Transpose<perm = [0, 2, 3, 1]>({x}) u{k} = Relu(t{k}) {y} = Transpose<perm = [0, 3, 1, 2]>(u{k})",
}


@st.composite
def chains(draw: st.DrawFn) -> Model:
    """Convolutions of all kinds, what may stand between them, and two Gemm at the end; every row of its own size."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights, nodes, values = ["int64[8] amounts"], "", {"amounts": np.array([0, 0, 1, 0, 0, 0, 0, 1])}
    x, width = "x", 4
    for k in range(draw(st.integers(2, 4))):
        kind = draw(st.sampled_from(sorted(LAYERS)))
        out = {"depthwise": width, "multiplied": 2 * width}.get(kind, draw(st.sampled_from([4, 6])))
        size = {"i": width, "h": width // 2, "d": 2 * width, "o": out}
        shape, op = (text.format(**size) for text in LAYERS[kind])
        weights.append(f"float[{shape}] w{k}, float[{out}] b{k}, float[{out}, 1, 1] slope{k}")
        rows = 10 ** rng.uniform(-1, 1, out)
        weight = rng.standard_normal([int(n) for n in shape.split(",")])
        values[f"w{k}"] = (weight * rows[:, None, None, None]).astype(np.float32)
        nodes += f" y{k} = {op}({x}, w{k}, b{k})"
        x, width = f"y{k}", out
        if draw(st.booleans()):
            weights.append(", ".join(f"float[{out}] {n}{k}" for n in "gsmv"))
            values[f"v{k}"] = rng.uniform(0.5, 2, out).astype(np.float32)
            nodes += f" n{k} = BatchNormalization({x}, g{k}, s{k}, m{k}, v{k})"
            x = f"n{k}"
        between = draw(st.sampled_from(sorted(BETWEEN)))
        if BETWEEN[between]:
            nodes += " " + BETWEEN[between].format(x=x, y=f"z{k}", k=k)
            x = f"z{k}"
    pooled = draw(st.booleans())
    pool = "GlobalAveragePool" if pooled else "MaxPool<kernel_shape = [2, 2], strides = [3, 3]>"
    nodes += f" c = {pool}({x})"
    nodes += " f = Flatten(c) g = Gemm(f, wg, bg) r = Relu(g) out = Gemm<transB = 1>(r, wh)"
    probe = parsed("float[N, 4, 8, 8] x", "float[N, K] f", ", ".join(weights), nodes.split(" g = ")[0], **values)
    inside = run(open_session(probe), {"x": np.zeros((1, 4, 8, 8), np.float32)})["f"].shape[1]
    weights.append(f"float[{inside}, 6] wg, float[6] bg, float[5, 6] wh")
    return parsed("float[N, 4, 8, 8] x", "float[N, 5] out", ", ".join(weights), nodes, **values)


def same(model: Model, changed: Model, name: str = "out") -> None:
    x = {"x": np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(np.float32)}
    expected, found = (run_plainly(m, x, [name])[name] for m in (model, changed))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def ranges(model: Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Largest weights of both sides of each pair, computed from the folded model's arrays alone."""
    graph = Graph(model)
    found = []
    for layer in graph.layers:
        pair = graph.pair(layer)
        if isinstance(pair, Pair):
            first = np.abs(layer.matrix(model.weights[layer.weight])).max(2).reshape(-1)
            second = np.abs(pair.second.matrix(model.weights[pair.second.weight])).max(1)
            columns = np.zeros_like(first)
            np.maximum.at(columns, pair.channels[pair.second.column_channels], second)
            found.append((first, columns))
    return found


@given(chains())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_outputs_stay_equal_and_both_sides_get_equal_ranges(model: Model) -> None:
    done = equalize(model)
    same(model, done.model)
    assert done.changed
    folded = fold_batch_norm(done.model)[0]
    same(model, folded)
    sides = ranges(folded)
    assert len(sides) >= len(done.done)
    for first, second in sides:
        np.testing.assert_allclose(first, second, rtol=0.02)


def test_depthwise_triples_end_at_the_cube_root() -> None:
    nodes = "a = Conv(x, w1) r = Relu(a) d = Conv<group = 4>(r, w2) s = Relu(d) out = Conv(s, w3)"
    weights = "float[4, 4, 1, 1] w1, float[4, 1, 3, 3] w2, float[3, 4, 1, 1] w3"
    model = parsed("float[N, 4, 8, 8] x", "float[N, 3, 6, 6] out", weights, nodes)
    done = equalize(model).model
    (first, middle), (_, last) = ranges(model)
    root = np.cbrt(first * middle * last)
    for found in (*ranges(done)[0], ranges(done)[1][1]):
        np.testing.assert_allclose(found, root, rtol=0.01)


def test_what_batch_normalization_remembers_is_scaled_along() -> None:
    model = bundled()
    done = equalize(model)
    assert done.changed
    before, after = moments(model), moments(done.model)
    x = np.random.default_rng(0).uniform(0, 1, (2, 1, 8, 8)).astype(np.float32)
    norms = [n.output[0] for n in model.graph.node if n.op_type == "BatchNormalization"]
    old, new = run_plainly(model, {"image": x}, norms), run_plainly(done.model, {"image": x}, norms)
    scaled = 0
    for name in norms:
        factor = np.abs(new[name]).max((0, 2, 3)) / np.maximum(np.abs(old[name]).max((0, 2, 3)), 1e-30)
        np.testing.assert_allclose(after[name].mean.reshape(-1), before[name].mean.reshape(-1) * factor, rtol=1e-3)
        scaled += not np.allclose(factor, 1, rtol=1e-2)
    assert scaled == len(done.done)


def bundled() -> Model:
    return load(Path(__file__).resolve().parents[4] / "examples" / "digits.onnx")


CASES: dict[str, tuple[str, str, str]] = {
    "sigmoid": ("r = Sigmoid(a) out = Conv(r, v)", "", "Sigmoid 'r'"),
    "added": ("r = Add(a, x) out = Conv(r, v)", "", "Add 'r'"),
    "shifted": ("r = Add(a, b) out = Conv(r, v)", ", float[4, 1, 1] b", "Add 'r'"),
    "read twice": ("r = Relu(a) s = Conv(r, v) out = Add(r, s)", "", "2 nodes"),
    "shared weight": ("r = Relu(a) s = Conv(r, v) out = Conv(s, v)", "", "use the constant 'v'"),
    "output": ("out = Relu(a)", "", "Relu 'out' is behind it|one of the model's"),
    "limited": ("r = Clip(a, low, high) out = Conv(r, v)", ", float low, float high", "upper limit"),
    "over pixels": ("r = MatMul(a, m) out = Relu(r)", ", float[8, 8] m", "another axis"),
    "padded channels": ("r = Pad(a, p) out = Conv(r, v6)", ", int64[8] p, float[4, 6, 1, 1] v6", "adds channels"),
    "computed slope": ("s = Exp(b) r = PRelu(a, s) out = Conv(r, v)", ", float[4, 1, 1] b", "slope is computed"),
    "channels reduced": (
        "r = ReduceMax<axes = [1]>(a) out = Conv(r, v1)",
        ", float[4, 1, 1, 1] v1",
        "reduces channels",
    ),
    "normalized later": (
        "r = Relu(a) n = BatchNormalization(r, b1, b2, b3, b4) out = Conv(n, v)",
        ", float[4] b1, float[4] b2, float[4] b3, float[4] b4",
        "BatchNormalization 'n'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_without_a_partner_are_left_and_say_why(case: str) -> None:
    nodes, more, reason = CASES[case]
    values = {"low": np.array(0, np.float32), "high": np.array(6, np.float32), "p": np.array([0, 1, 0, 0, 0, 1, 0, 0])}
    values = {k: v for k, v in values.items() if f" {k}" in more}
    text = f"a = Conv(x, w) {nodes}"
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, K, H, W] out",
        f"float[4, 4, 1, 1] w, float[4, 4, 1, 1] v{more}",
        text,
        **values,
    )
    done = equalize(model)
    assert any(part in done.skipped["a"] for part in reason.split("|")), done.skipped
    assert done.model is model or "a" not in done.done
    same(model, done.model)


def six(limit: float, shift: float) -> Model:
    nodes = "a = Conv(x, w) n = BatchNormalization(a, g, s, m, v) r = Clip(n, low, high) out = Conv(r, u)"
    weights = "float[4, 4, 3, 3] w, float[4] g, float[4] s, float[4] m, float[4] v, float low, float high"
    values = {"g": np.full(4, 0.5), "s": np.full(4, shift), "m": np.zeros(4), "v": np.ones(4)}
    arrays = {k: v.astype(np.float32) for k, v in values.items()}
    arrays |= {"low": np.array(0, np.float32), "high": np.array(limit, np.float32)}
    weights += ", float[3, 4, 1, 1] u"
    return parsed("float[N, 4, 8, 8] x", "float[N, 3, 6, 6] out", weights, nodes, **arrays)


def test_a_limit_that_is_never_met_goes() -> None:
    idle = equalize(six(6, 1))
    assert "never met" in idle.notes[0]
    assert idle.changed
    same(six(6, 1), idle.model)
    met = equalize(six(6, 4))
    assert "upper limit" in met.skipped["a"]


def test_high_biases_move_on_and_outputs_hardly_change() -> None:
    nodes = "a = Conv(x, w) n = BatchNormalization(a, g, s, m, v) r = Relu(n) o = Conv(r, u, c) out = Relu(o)"
    weights = "float[4, 4, 3, 3] w, float[4] g, float[4] s, float[4] m, float[4] v, float[3, 4, 1, 1] u, float[3] c"
    values = {"g": np.full(4, 0.5), "s": np.array([4.0, 1, 3, -2]), "m": np.zeros(4), "v": np.ones(4)}
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 3, 6, 6] out",
        weights,
        nodes,
        **{k: v.astype(np.float32) for k, v in values.items()},
    )
    done = absorb_high_biases(model)
    np.testing.assert_allclose(done.model.weights["s"], [1.5, 1, 1.5, -2])
    assert list(done.done) == ["a"]
    x = {"x": np.random.default_rng(0).standard_normal((20, 4, 8, 8)).astype(np.float32)}
    expected, found = (run(open_session(m), x)["out"] for m in (model, done.model))
    assert (np.abs(expected - found) < 1e-5).mean() > 0.98


@pytest.mark.parametrize(
    ("second", "reason"), [("Conv<pads = [1, 1, 1, 1]>(r, u, c)", "pads"), ("Conv(r, u)", "no bias of its own")]
)
def test_high_biases_stay_where_the_layer_behind_cannot_take_them(second: str, reason: str) -> None:
    nodes = f"a = Conv(x, w) n = BatchNormalization(a, g, s, m, v) r = Relu(n) o = {second} out = Sigmoid(o)"
    weights = "float[4, 4, 3, 3] w, float[4] g, float[4] s, float[4] m, float[4] v, float[3, 4, 3, 3] u, float[3] c"
    model = parsed("float[N, 4, 8, 8] x", "float[N, 3, H, W] out", weights, nodes, s=np.full(4, 9, np.float32))
    done = absorb_high_biases(model)
    assert not done.changed
    assert reason in done.skipped["a"]


def test_a_real_network_stays_as_it_was(shared_data: Path) -> None:
    model = load(shared_data / "resnet20-bn.onnx")
    done = equalize(model)
    assert len(done.done) == 9
    with np.load(shared_data / "cifar10_test_first2000.npz") as images:
        x = images["x"][:64].transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected, found = (run(open_session(m), {"input": x})["logits"] for m in (model, done.model))
    np.testing.assert_allclose(found, expected, atol=1e-4)
