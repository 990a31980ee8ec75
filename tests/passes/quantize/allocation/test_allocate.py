"""Bits for each layer: exact where that is promised, never above the limit, and from losses that are what they claim."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.errors import TargetUnreachable, UsageError
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.calibration.activation_cache import ActivationCache, Inputs, Store
from intaglio.passes.precision.grid import Grid
from intaglio.passes.precision.sensitivity import sensitivity
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.allocation.allocate import ALLOCATORS, Choices
from intaglio.passes.quantize.allocation.budgeted import choices_of, weight_bits
from intaglio.passes.quantize.allocation.ompq import grams, importance, likeness, near, ompq
from intaglio.passes.quantize.rounding.nearest import nearest
from intaglio.passes.quantize.rounding.rounding import Spec
from intaglio.passes.rounding.problem import Problem
from tests.passes.parsed import parsed

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
BITS = (2, 3, 4, 8)


def drawn(rng: np.random.Generator, count: int, *, fixed: bool = False) -> list[Choices]:
    """Layers with losses that fall by about four a bit, as squared errors do."""
    found = []
    for k in range(count):
        bits = (8,) if fixed and k in (0, count - 1) else BITS
        size = float(rng.integers(1, 40))
        loss = rng.uniform(0.1, 10) * 4.0 ** -np.array(bits, float) * rng.uniform(0.7, 1.3, len(bits))
        rows = rng.normal(size=(16, 5)) + rng.normal(size=(16, 1)) * rng.uniform(0, 3)
        found.append(Choices(f"n{k}", bits, size * np.array(bits, float), loss, rows @ rows.T))
    return found


def places(layers: list[Choices], bits: Mapping[str, int]) -> list[int]:
    return [one.bits.index(bits[one.name]) for one in layers]


def cost(layers: list[Choices], choice: list[int] | tuple[int, ...]) -> float:
    return float(sum(one.cost[k] for one, k in zip(layers, choice, strict=True)))


def limits(layers: list[Choices]) -> list[float]:
    low = sum(one.cost.min() for one in layers)
    high = sum(one.cost.max() for one in layers)
    return [low, low + 0.1 * (high - low), low + 0.35 * (high - low), low + 0.8 * (high - low), high]


@pytest.mark.parametrize("seed", range(6))
def test_dp_loses_least_of_all_choices(seed: int) -> None:
    layers = drawn(np.random.default_rng(seed), 5, fixed=seed % 2 == 1)
    every = list(product(*[range(len(one.bits)) for one in layers]))
    falling = [np.minimum.accumulate(one.loss) for one in layers]
    for limit in limits(layers):
        chosen = places(layers, ALLOCATORS["dp"](layers, limit))
        least = min(
            sum(f[k] for f, k in zip(falling, c, strict=True)) for c in every if cost(layers, c) <= limit + 1e-9
        )
        assert cost(layers, chosen) <= limit * (1 + 1e-9)
        assert sum(f[k] for f, k in zip(falling, chosen, strict=True)) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_ompq_is_the_best_for_its_own_aim_up_to_rounding(seed: int) -> None:
    layers = drawn(np.random.default_rng(seed), 5, fixed=seed % 2 == 1)
    worth = importance(layers)

    def gained(choice: list[int] | tuple[int, ...]) -> float:
        return float(sum(w * one.bits[k] for w, one, k in zip(worth, layers, choice, strict=True)))

    for limit in limits(layers):
        chosen = places(layers, ompq(layers, limit))
        assert cost(layers, chosen) <= limit * (1 + 1e-9)
        allowed = [
            [one.bits.index(b) for b in open_.bits] for one, open_ in zip(layers, near(layers, limit), strict=True)
        ]
        most = max(gained(c) for c in product(*allowed) if cost(layers, c) <= limit + 1e-9)
        step = max(w * (max(one.bits) - min(one.bits)) for w, one in zip(worth, layers, strict=True))
        assert most - step - 1e-9 <= gained(chosen) <= most + 1e-9


@pytest.mark.parametrize("name", ["dp", "greedy", "ompq"])
def test_no_allocator_exceeds_the_limit(name: str) -> None:
    for seed in range(4):
        layers = drawn(np.random.default_rng(100 + seed), 30, fixed=True)
        for limit in limits(layers):
            chosen = places(layers, ALLOCATORS[name](layers, limit))
            assert cost(layers, chosen) <= limit * (1 + 1e-9)
        with pytest.raises(TargetUnreachable):
            ALLOCATORS[name](layers, limits(layers)[0] * 0.99)


@pytest.mark.parametrize("name", ["dp", "ompq"])
def test_a_larger_limit_never_gets_a_worse_answer(name: str) -> None:
    layers = drawn(np.random.default_rng(3), 8)
    worth = importance(layers)
    lowest, *_, highest = limits(layers)
    slack = float(max(worth)) * 6 if name == "ompq" else 1e-12  # what rounding to whole bits may cost
    best = -np.inf
    for part in np.linspace(0, 1, 25):
        chosen = places(layers, ALLOCATORS[name](layers, lowest + part * (highest - lowest)))
        kept = [np.minimum.accumulate(one.loss)[k] for one, k in zip(layers, chosen, strict=True)]
        bits = [one.bits[k] for one, k in zip(layers, chosen, strict=True)]
        good = float(worth @ bits) if name == "ompq" else -float(sum(kept))
        assert good >= best - slack
        best = max(best, good)
    assert chosen == [3] * 8


def test_noise_in_the_losses_of_many_bits_does_not_cost_anything() -> None:
    noisy = Choices("a", (2, 4, 8), np.array([2.0, 4.0, 8.0]), np.array([1.0, 1e-3, 2e-3]))
    assert ALLOCATORS["dp"]([noisy], 100.0)["a"] in (4, 8)
    falls = Choices("b", (2, 4, 8), np.array([2.0, 4.0, 8.0]), np.array([1.0, 1e-1, 1e-4]))
    assert dict(ALLOCATORS["dp"]([noisy, falls], 12.0)) == {"a": 4, "b": 8}


def test_ompq_without_data_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        ompq([Choices("a", (2, 4), np.array([2.0, 4.0]))], 4.0)


def test_likeness_is_linear_cka() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 9))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    found = likeness([x @ x.T, (3 * x @ turn + 5) @ (3 * x @ turn + 5).T, y @ y.T, np.ones((20, 20))])
    cx, cy = x - x.mean(0), y - y.mean(0)
    expected = np.square(np.linalg.norm(cy.T @ cx)) / np.linalg.norm(cx.T @ cx) / np.linalg.norm(cy.T @ cy)
    assert found[0, 2] == pytest.approx(expected)
    assert found[0, 1] == pytest.approx(1.0)  # neither rotation, size nor mean matter
    assert found[0, 3] == 0.0  # a layer that never changes is like no other


def net() -> Model:
    return parsed(
        "float[N,3,6,6] x",
        "float[N,5] y",
        "float[6,3,3,3] w1, float[6] b1, float[8,6,3,3] w2, float[8] b2, float[8,5] w3, float[5] b3",
        "a = Conv(x, w1, b1) r = Relu(a) c = Conv(r, w2, b2) s = Relu(c) p = GlobalAveragePool(s) f = Flatten(p) "
        "l = Gemm(f, w3, b3) y = Softmax(l)",
    )


def batches(count: int = 48) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(16, 3, 6, 6)).astype(np.float32)} for _ in range(count // 16)]


@pytest.fixture
def inputs() -> Inputs:
    return Inputs(batches(), Store(1 << 26))


def test_losses_are_those_of_one_rounded_layer(inputs: Inputs) -> None:
    model = net()
    rules = {one.node: [Spec(Grid(b), ("nearest",)) for b in (2, 4)] for one in Layers(model)}
    found = sensitivity(model, inputs, rules)
    for layer in Layers(model):
        for rule, loss in zip(rules[layer.node], found[layer.node], strict=True):
            assert loss == pytest.approx(measured(model, layer, rule.grid), rel=0.05)


def measured(model: Model, layer: object, grid: Grid) -> float:
    """By hand: all samples at once, the bias moved by the change of the layer's mean."""
    (one,) = (x for x in Layers(model) if x == layer)
    x = np.concatenate([b["x"] for b in batches()])
    variant = model.copy()
    weight = model.weights[one.weight]
    variant.weights[one.weight] = one.weight_like(nearest(Problem(one.matrix(weight), grid)).floats(), weight)
    means = [
        np.moveaxis(run(open_session(m, outputs=[one.output]), {"x": x})[one.output], 1, -1)
        .reshape(len(x), -1, len(model.weights[one.bias or ""]))
        .mean((0, 1))
        for m in (model, variant)
    ]
    variant.weights[one.bias or ""] = model.weights[one.bias or ""] + means[0] - means[1]
    exact, near = (run(open_session(m, outputs=["l"]), {"x": x})["l"].astype(np.float64) for m in (model, variant))
    return float(np.square(exact - near).mean() / exact.var(axis=0).mean())


@pytest.mark.parametrize("name", ["dp", "greedy", "ompq"])
def test_mixed_precision_keeps_the_average_and_what_is_settled(name: str, inputs: Inputs) -> None:
    model = net()
    layers = list(Layers(model))
    grids = {one.node: [Grid(b) for b in (2, 3, 4, 8)] for one in layers}
    grids[layers[0].node] = [Grid(4)]
    sizes = {one.node: model.weights[one.weight].size for one in layers}
    choices = choices_of(model, inputs, grids, name=name, price=weight_bits)
    for average in (3.5, 4.0, 6.0):
        found = ALLOCATORS[name](choices, average * sum(sizes.values()))
        assert found[layers[0].node] == 4
        total = sum(weight_bits(one, Grid(found[one.node])) for one in layers)
        assert total <= average * sum(sizes.values())


def test_grams_are_products_of_outputs(inputs: Inputs) -> None:
    model = net()
    layers = list(Layers(model))
    x = np.concatenate([b["x"] for b in batches()])
    for layer, gram in zip(layers, grams(ActivationCache(model, inputs), layers), strict=True):
        rows = run(open_session(model, outputs=[layer.output]), {"x": x})[layer.output].reshape(len(x), -1)
        np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [0.13, 0.17, 0.21, 0.25])
def test_most_of_a_limit_of_bytes_is_used(size: float) -> None:
    """What stands beside integers differs by their bits: limits are corrected until they hold, not given up."""
    model = load(EXAMPLES / "digits.onnx")
    context = Context(data=open_data(str(EXAMPLES / "digits_calib.npz"), model, samples=16))
    done = Quantize(size=size, method="nearest", verify=False).run(model, context)
    assert 0.85 * size < done.after.size / done.before.size <= size
