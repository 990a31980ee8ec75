"""What layers aim at: sums that carry earlier errors, and limits beyond which a value makes no difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.graph.nodes import saturation, set_attribute
from intaglio.graph.traits import OPERATORS
from intaglio.passes.calibration.targets import ReconstructionTarget, ReconstructionTargets
from tests.passes.parsed import parsed, run_plainly

INFINITY = float("inf")
IMAGE = "float[N, 4, 6] x"
WEIGHTS = ", ".join(f"float[4, 4, 1] w{k}" for k in range(5))


def targets_of(model: Model) -> dict[str, ReconstructionTarget]:
    layers = Layers(model)
    targets = ReconstructionTargets(model, index_of(model).shapes, layers)
    return {layer.output: targets.of(layer) for layer in layers}


def targets(nodes: str, outputs: str = "float y", weights: str = WEIGHTS) -> dict[str, ReconstructionTarget]:
    return targets_of(parsed(IMAGE, outputs, weights, nodes))


def test_a_layer_before_something_linear_aims_at_its_own_output() -> None:
    assert targets("a = Conv(x, w0) p = MaxPool <kernel_shape = [2]> (a) y = Tanh(p)") == {
        "a": ReconstructionTarget("a")
    }


def test_the_later_branch_aims_at_the_sum_and_the_earlier_one_at_its_own_output() -> None:
    found = targets("a = Conv(x, w0) r = Relu(a) b = Conv(r, w1) c = Relu(b) d = Conv(c, w2) s = Add(d, r) y = Relu(s)")
    assert found["a"] == ReconstructionTarget("a", activation_bounds=(0.0, INFINITY))
    assert found["b"] == ReconstructionTarget("b", activation_bounds=(0.0, INFINITY))
    assert found["d"] == ReconstructionTarget("s", ("r",), (0.0, INFINITY))


@pytest.mark.parametrize("order", ["Add(d, e)", "Add(e, d)"])
def test_of_two_branches_with_layers_the_one_that_runs_later_makes_up_for_both(order: str) -> None:
    """As in the first block of a stage, where the shortcut has a convolution of its own."""
    found = targets(f"a = Conv(x, w0) d = Conv(a, w1) e = Conv(a, w2) s = {order} y = Tanh(s)")
    assert found["d"] == ReconstructionTarget("d")
    assert found["e"] == ReconstructionTarget("s", ("d",))
    found = targets(f"a = Conv(x, w0) e = Conv(a, w2) d = Conv(a, w1) s = {order} y = Tanh(s)")
    assert found["e"] == ReconstructionTarget("e")
    assert found["d"] == ReconstructionTarget("s", ("e",))


def test_a_branch_that_a_later_layer_still_changes_is_not_counted_on() -> None:
    """The shortcut depends on ``c``, which runs after ``b``."""
    found = targets("a = Conv(x, w0) b = Conv(a, w1) c = Conv(a, w2) t = Tanh(c) s = Add(b, t) y = Tanh(s)")
    assert found["b"] == ReconstructionTarget("b")
    assert found["c"] == ReconstructionTarget("c")
    found = targets("a = Conv(x, w0) c = Conv(a, w2) t = Tanh(c) b = Conv(a, w1) s = Add(b, t) y = Tanh(s)")
    assert found["b"] == ReconstructionTarget("s", ("t",))


def test_chains_of_sums_are_followed_to_their_end() -> None:
    found = targets(
        "a = Conv(x, w0) b = Conv(a, w1) c = Conv(b, w2) s = Add(c, b) t = Add(x, s) u = Add(t, a) y = Relu(u)"
    )
    assert found["a"] == ReconstructionTarget("a")
    assert found["b"] == ReconstructionTarget("b")
    assert found["c"] == ReconstructionTarget("u", ("b", "x", "a"), (0.0, INFINITY))


def test_a_chain_ends_before_an_operand_that_comes_too_late() -> None:
    found = targets(
        "a = Conv(x, w0) b = Conv(a, w1) s = Add(b, a) c = Conv(s, w2) t = Conv(a, w3) u = Add(c, t) y = Tanh(u)"
    )
    assert found["b"] == ReconstructionTarget("s", ("a",))
    assert found["c"] == ReconstructionTarget("c")
    assert found["t"] == ReconstructionTarget("u", ("c",))


@pytest.mark.parametrize(
    ("why", "nodes", "outputs"),
    [
        ("read twice", "a = Conv(x, w0) s = Add(a, x) z = Tanh(a) y = Mul(s, z)", "float y"),
        ("an output of the network", "a = Conv(x, w0) y = Add(a, x)", "float y, float a"),
        ("a product", "a = Conv(x, w0) s = Mul(a, x) y = Tanh(s)", "float y"),
        ("added to itself", "a = Conv(x, w0) s = Add(a, a) y = Tanh(s)", "float y"),
        ("a constant", "a = Conv(x, w0) s = Add(a, k) y = Tanh(s)", "float y"),
        ("spread out", "a = Conv(x, w0) g = GlobalAveragePool(x) s = Add(a, g) y = Tanh(s)", "float y"),
    ],
)
def test_a_sum_is_not_followed_where_the_layer_alone_does_not_decide_it(why: str, nodes: str, outputs: str) -> None:
    weights = WEIGHTS + ", float[1, 4, 1] k"
    assert targets(nodes, outputs, weights)["a"] == ReconstructionTarget("a"), why


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_targets_can_be_met(seed: int) -> None:
    """The target is the layer's output plus the others, and none of the others depends on a layer that runs later."""
    rng = np.random.default_rng(seed)
    tensors, nodes = ["x"], []
    for k in range(rng.integers(3, 9)):
        one, two = rng.choice(tensors, 2)
        kind = rng.choice(["conv", "conv", "add", "relu"])
        texts = {"conv": f"Conv({one}, w{k % 5})", "add": f"Add({one}, {two})", "relu": f"Relu({one})"}
        nodes.append(f"t{k} = {texts[kind]}")
        tensors.append(f"t{k}")
    nodes.append(f"y = Sum({', '.join(tensors)})" if rng.random() < 0.3 else f"y = Tanh({tensors[-1]})")
    model = parsed(IMAGE, "float y", WEIGHTS, " ".join(nodes))
    feed = {"x": rng.standard_normal((2, 4, 6)).astype(np.float32)}
    values = run_plainly(model, feed, [*tensors[1:], "y"]) | feed
    layers = list(Layers(model))
    for k, layer in enumerate(layers):
        target = targets_of(model)[layer.output]
        parts = [values[name] for name in (layer.output, *target.others)]
        np.testing.assert_allclose(sum(parts), values[target.tensor], atol=1e-4)
        for later in layers[k:]:
            assert not ({later.output} & _ancestors(model, target.others))


def _ancestors(model: Model, names: tuple[str, ...]) -> set[str]:
    """The tensors and everything they are made of."""
    found = set(names)
    for node in reversed(model.graph.node):
        if found & set(node.output):
            found |= set(node.input)
    return found


@pytest.mark.parametrize(
    ("nodes", "bounds"),
    [
        ("y = Relu(a)", (0.0, INFINITY)),
        ("y = Clip(a, low, high)", (-0.25, 1.5)),
        ("y = Clip(a, low)", (-0.25, INFINITY)),
        ("y = Clip(a, , high)", (-INFINITY, 1.5)),
        ("y = Clip(a)", None),
        ("y = HardSwish(a)", (-3.0, INFINITY)),
        ("y = HardSigmoid(a)", (-2.5, 2.5)),
        ("r = Relu(a) t = Clip(a, low, high) y = Add(r, t)", (-0.25, INFINITY)),
        ("r = HardSigmoid(a) t = Clip(a, low, high) y = Add(r, t)", (-2.5, 2.5)),
        ("r = Relu(a) t = Clip(a, , high) y = Add(r, t)", None),
        ("r = Relu(a) t = Relu(a) y = Add(r, t)", (0.0, INFINITY)),
        ("r = Relu(a) y = Add(r, a)", None),
        ("r = Relu(a) t = Tanh(a) y = Add(r, t)", None),
        ("r = Relu(a) t = LeakyRelu(a) y = Add(r, t)", None),
        ("l = Abs(low) y = Clip(a, l, high)", None),
        ("t = ReduceMean <keepdims = 0> (x) y = Clip(a, t)", None),
    ],
)
def test_limits_are_those_beyond_which_nothing_gets_through_to_any_reader(
    nodes: str, bounds: tuple[float, float] | None
) -> None:
    model = parsed(
        IMAGE, "float y", WEIGHTS + ", float low, float high", f"a = Conv(x, w0) {nodes}", low=f32(-0.25), high=f32(1.5)
    )
    assert targets_of(model)["a"].activation_bounds == bounds


def f32(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


def test_an_output_of_the_network_has_no_limits() -> None:
    assert targets("a = Conv(x, w0) y = Relu(a)", "float y, float a")["a"].activation_bounds is None
    assert targets("y = Conv(x, w0)")["y"].activation_bounds is None


def test_limits_are_those_of_the_sum_where_the_sum_is_the_goal() -> None:
    assert targets("a = Conv(x, w0) s = Add(a, x) y = Tanh(s)")["a"].activation_bounds is None
    found = targets("a = Conv(x, w0) b = Relu(x) s = Add(a, b) y = Clip(s, w5)", weights=WEIGHTS + ", float w5")
    assert found["a"].tensor == "s"
    assert found["a"].activation_bounds is not None


EXAMPLES: dict[str, list[Callable[[], tuple[dict[str, Any], list[float]]]]] = {
    "Relu": [lambda: ({}, [])],
    "HardSwish": [lambda: ({}, [])],
    "HardSigmoid": [lambda: ({}, []), lambda: ({"alpha": 0.4, "beta": -0.3}, []), lambda: ({"alpha": 1.5}, [])],
    "ThresholdedRelu": [lambda: ({}, []), lambda: ({"alpha": 0.3}, []), lambda: ({"alpha": -0.7}, [])],
    "Clip": [lambda: ({}, [-0.5, 2.0]), lambda: ({}, [1.0, 6.0]), lambda: ({}, [-3.0])],
}
"""Attributes and further operands to try each operator with."""
SATURATING = sorted(op for op, row in OPERATORS.items() if row.saturation)


@pytest.mark.parametrize("op", SATURATING)
def test_values_beyond_the_limits_come_out_as_the_limit_does(op: str) -> None:
    assert op in EXAMPLES, "give it an example"
    for example in EXAMPLES[op]:
        attributes, operands = example()
        model = alone(op, attributes, operands)
        (node,) = model.graph.node
        limits = saturation(node, model.weights)
        assert limits is not None
        for limit, side in zip(limits, (-1.0, 1.0), strict=True):
            if np.isfinite(limit):
                beyond = limit + side * np.concatenate([[0.0], np.logspace(-6, 4, 60)])
                (y,) = run_plainly(model, {"x": beyond.astype(np.float32)}, ["y"]).values()
                np.testing.assert_allclose(y, np.full_like(y, y[0]), atol=1e-6, err_msg=f"{op} {attributes} {limit}")
        assert any(np.isfinite(limits))


@pytest.mark.parametrize("op", SATURATING)
def test_limits_are_as_tight_as_they_can_be(op: str) -> None:
    """Just inside of them a value does make a difference."""
    for example in EXAMPLES[op]:
        model = alone(op, *example())
        (node,) = model.graph.node
        limits = saturation(node, model.weights)
        assert limits is not None
        for limit, side in zip(limits, (-1.0, 1.0), strict=True):
            if np.isfinite(limit):
                x = np.array([limit, limit - side * 0.05], dtype=np.float32)
                (y,) = run_plainly(model, {"x": x}, ["y"]).values()
                assert y[0] != y[1]


@pytest.mark.parametrize(("op", "attributes"), [("HardSigmoid", {"alpha": 0.0}), ("HardSigmoid", {"alpha": -0.2})])
def test_curves_that_do_not_rise_have_no_limits(op: str, attributes: dict[str, float]) -> None:
    model = alone(op, attributes, [])
    assert saturation(model.graph.node[0], model.weights) is None


def alone(op: str, attributes: dict[str, Any], operands: list[float]) -> Model:
    names = [f"c{k}" for k in range(len(operands))]
    tensors = [numpy_helper.from_array(f32(v), n) for n, v in zip(names, operands, strict=True)]
    infos = [helper.make_tensor_value_info(n, 1, ["N"]) for n in "xy"]
    node = helper.make_node(op, ["x", *names], ["y"], **attributes)
    graph = helper.make_graph([node], "net", infos[:1], infos[1:], tensors)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


@pytest.mark.parametrize("op", SATURATING)
def test_attributes_that_the_operator_does_not_have_say_nothing(op: str) -> None:
    """ONNX Runtime takes them, too."""
    model = alone(op, *EXAMPLES[op][0]())
    (node,) = model.graph.node
    known = saturation(node, model.weights)
    set_attribute(node, "kernel_shape", [3])
    assert saturation(node, model.weights) == known
