"""Rounding in turn: each layer mends what it can, and never costs more than rounding it by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from intaglio.graph.layer import Floats
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes import Context
from intaglio.passes.calibration.walk import Walked, round_in_turn, round_plainly
from intaglio.passes.precision.grid import Grid, Quantized
from intaglio.passes.quantize.rounding.rounding import Spec
from intaglio.passes.simplify import with_biases
from tests.passes.parsed import parsed, run_plainly
from tests.passes.quantize.networks import NETWORKS, Network


def walked(network: Network, model: Model, bits: int, methods: tuple[str, ...], **options: bool) -> Walked[Quantized]:
    x = network.samples(256)
    batches = [{"x": x[:100]}, {"x": x[100:]}]
    specs = {layer.node: Spec(Grid(bits), methods) for layer in Layers(model)}
    return round_in_turn(model, model, batches, specs, Context(), **options)


def noise(network: Network, model: Model, rounded: Model) -> float:
    exact, near = (run_plainly(m, {"x": network.samples(256, seed=7)}, ["y"])["y"] for m in (model, rounded))
    return float(np.square(exact - near).mean() / exact.var())


@dataclass
class Counted:
    """A rule that counts how often it is asked."""

    asked: int = 0

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Quantized]:
        self.asked += 1
        return Spec(Grid(4), ("nearest",)).solve(wanted, hessian)


@pytest.mark.parametrize("data", [True, False])
def test_the_rounding_of_a_shared_weight_is_searched_once(data: bool) -> None:
    steps = "".join(f"a{k} = MatMul({'x' if k == 0 else f't{k - 1}'}, w) t{k} = Tanh(a{k}) " for k in range(5))
    model = parsed("float[N,8] x", "float[N,8] t4", "float[8,8] w", steps)
    counted = Counted()
    rules = {layer.node: counted for layer in Layers(model)}
    batches = [{"x": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)}]
    found = round_in_turn(model, model, batches, rules, Context()) if data else round_plainly(model, rules)
    assert (len(found.rounded), counted.asked) == (5, 1)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "grouped", "products", "one_dimensional"])
def test_rounding_in_turn_loses_less_than_each_layer_by_itself(name: str, bits: int) -> None:
    network = NETWORKS[name]
    model = with_biases(network.model())
    specs = {layer.node: Spec(Grid(bits), ("mse",)) for layer in Layers(model)}
    plain = noise(network, model, round_plainly(model, specs).applied(model))
    assert noise(network, model, walked(network, model, bits, ("mse", "descent")).applied(model)) < plain


def test_a_layer_makes_up_for_the_one_before_it() -> None:
    network = NETWORKS["residual"]
    model = with_biases(network.model())
    specs = {"a": Spec(Grid(2), ("nearest",))}
    x = network.samples(256)
    broken = round_in_turn(model, model, [{"x": x}], specs, Context()).applied(model)
    rest = {layer.node: Spec(Grid(8), ("nearest",)) for layer in Layers(model) if layer.node != "a"}
    mended = round_in_turn(model, model, [{"x": x}], {**specs, **rest}, Context()).applied(model)
    assert noise(network, model, mended) < 0.7 * noise(network, model, broken)


def test_without_refit_only_biases_follow() -> None:
    network = NETWORKS["plain"]
    model = with_biases(network.model())
    found = walked(network, model, 4, ("nearest",), refit=False)
    specs = {layer.node: Spec(Grid(4), ("nearest",)) for layer in Layers(model)}
    for node, one in round_plainly(model, specs).rounded.items():
        np.testing.assert_array_equal(one.quantized.integers, found.rounded[node].quantized.integers)
    assert set(found.biases) == {layer.bias for layer in Layers(model)}


def test_layers_that_share_a_weight_get_the_same_integers() -> None:
    network = NETWORKS["shared"]
    model = network.model()
    found = walked(network, model, 4, ("mse", "descent"))
    one, two = found.rounded.values()
    np.testing.assert_array_equal(one.quantized.integers, two.quantized.integers)
    assert noise(network, model, found.applied(model)) < 0.1


def test_batches_do_not_matter() -> None:
    network = NETWORKS["plain"]
    model, x = with_biases(network.model()), NETWORKS["plain"].samples(120)
    specs = {layer.node: Spec(Grid(4), ("descent",)) for layer in Layers(model)}
    one, two = (
        round_in_turn(model, model, [{"x": part} for part in np.split(x, cuts)], specs, Context())
        for cuts in ([60], [10, 30, 100])
    )
    for node in specs:
        same = one.rounded[node].quantized.integers == two.rounded[node].quantized.integers
        assert same.mean() > 0.99


def test_the_expected_error_is_that_of_the_output() -> None:
    network = NETWORKS["one_dimensional"]
    model = with_biases(network.model())
    found = walked(network, model, 3, ("mse",), refit=False)
    (first, *_) = found.rounded.values()
    x = network.samples(256)
    exact, near = (run_plainly(m, {"x": x}, ["a"])["a"] for m in (model, found.applied(model)))
    measured = np.square(near - exact).sum(axis=(0, 2)).sum() / exact.var(axis=(0, 2)).sum() / (exact.size / 8)
    assert first.error == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_mean_over_the_samples_is_no_sample(kept: int) -> None:
    model = parsed(
        "float[N, 4] x",
        "float[N, 5] y",
        "float[4, 8] w, float[8, 6] w2, float[6, 5] w3, float[6, 5] w5",
        f"a = MatMul(x, w) r = Relu(a) h = MatMul(r, w2) s = ReduceMean <axes = [0], keepdims = {kept}> (h) "
        "t = MatMul(s, w5) u = MatMul(h, w3) y = Add(u, t)",
    )
    x = np.random.default_rng(0).standard_normal((96, 4)).astype(np.float32)
    specs = {layer.node: Spec(Grid(6), ("descent",)) for layer in Layers(model)}
    found = round_in_turn(model, model, [{"x": x[:64]}, {"x": x[64:]}], specs, Context())
    exact, near = (run_plainly(m, {"x": x}, ["y"])["y"] for m in (model, found.applied(model)))
    assert np.square(exact - near).mean() < 1e-2 * exact.var()
