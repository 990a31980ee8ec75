"""Where a function of one number steps is found to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.model import Model
from intaglio.graph.traits import Trait, operators
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.monotone import RULES
from intaglio.passes.binarize.trained.recognize import recognize
from intaglio.passes.binarize.trained.regions import Region, regions
from intaglio.passes.binarize.trained.steps import Layout, Step, step
from intaglio.passes.binarize.trained.wires import Wires

from ..binary_graphs import SIGNS, Graph, signs

LAYOUT = Layout(4, 1, 5)
RISING: dict[str, Callable[[Graph, str], str]] = {
    "Add": lambda g, x: g.node("Add", x, g.constant(g.rng.standard_normal((5, 1, 1)))),
    "Sub": lambda g, x: g.node("Sub", g.constant(g.rng.standard_normal((5, 1, 1))), x),
    "Mul": lambda g, x: g.node("Mul", x, g.constant(g.rng.standard_normal((5, 1, 1)))),
    "Div": lambda g, x: g.node("Div", x, g.constant(g.rng.uniform(0.5, 3, (5, 1, 1)))),
    "Neg": lambda g, x: g.node("Neg", x),
    "Relu": lambda g, x: g.node("Relu", x),
    "Clip": lambda g, x: g.node("Clip", x, g.constant(-1), g.constant(2)),
    "LeakyRelu": lambda g, x: g.node("LeakyRelu", x, alpha=0.1),
    "PRelu": lambda g, x: g.node("PRelu", x, g.constant(g.rng.uniform(0, 2, (5, 1, 1)))),
    "HardSigmoid": lambda g, x: g.node("HardSigmoid", x),
    "Min": lambda g, x: g.node("Min", x, g.constant(3)),
    "Max": lambda g, x: g.node("Max", x, g.constant(-3)),
    "Floor": lambda g, x: g.node("Floor", x),
    "Ceil": lambda g, x: g.node("Ceil", x),
    "Round": lambda g, x: g.node("Round", x),
    "Identity": lambda g, x: g.node("Identity", x),
    "Cast": lambda g, x: g.node("Cast", x, to=1),
    "BatchNormalization": lambda g, x: g.node(
        "BatchNormalization", x, *(g.constant(v) for v in (*g.rng.standard_normal((3, 5)), g.rng.uniform(0.5, 2, 5)))
    ),
}


def test_every_rule_has_an_example() -> None:
    assert RISING.keys() == RULES.keys()
    assert RULES.keys() <= operators(Trait.ELEMENTWISE) | operators(Trait.PER_CHANNEL)


def largest_region(model: Model) -> tuple[Wires, Region]:
    wires = Wires(model)
    return wires, list(regions(wires, model.graph.output[0].name))[-1]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 9999),
    st.lists(st.sampled_from(sorted(RISING)), max_size=4),
    st.sampled_from(sorted({*SIGNS} - {"straight_through"})),
)
def test_the_number_before_the_step_is_on_one_side_and_the_step_on_the_other(
    seed: int, chain: list[str], sign: str
) -> None:
    g = Graph(np.random.default_rng(seed))
    x = g.node("Add", "x", g.constant(0.25))
    for op in chain:
        x = RISING[op](g, x)
    model = g.model(["N", 5, "H", "W"], SIGNS[sign](g, x))
    found = step(*largest_region(model), LAYOUT)
    if isinstance(found, str):
        assert found == "it is always the same"
        return
    at = np.where(np.isfinite(found.threshold), found.threshold, 0).astype(np.float32)
    points = np.stack([np.nextafter(at, np.float32(-np.inf)), at, at - 50, at + 50, np.zeros(5, np.float32)])
    (values,) = run(open_session(model, optimize=False), {"x": points.reshape(5, 5, 1, 1)}).values()
    expected = np.where((points < found.threshold) ^ found.falls, found.low, found.high)
    np.testing.assert_allclose(values.reshape(5, 5), expected, rtol=1e-5)


def test_a_function_with_three_values_is_no_step() -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(["N", 5, "H", "W"], g.node("Round", g.node("Clip", "x", g.constant(-1), g.constant(1))))
    assert step(*largest_region(model), LAYOUT) == "it has more than two values"


def test_rounding_to_whole_numbers_is_no_step_though_it_is_coarse() -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(["N", 5, "H", "W"], g.node("Round", "x"))
    assert step(*largest_region(model), LAYOUT) == "it has more than two values"


@pytest.mark.parametrize("zeros", [False, True])
def test_the_zero_of_sign_is_taken_for_plus_one_on_request(zeros: bool) -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(["N", 5, "H", "W"], g.node("Sign", g.node("Add", "x", g.constant(1))))
    found = step(*largest_region(model), LAYOUT, zeros=zeros)
    if zeros:
        assert isinstance(found, Step)
        assert (found.threshold == -1).all()
    else:
        assert found == "it is 0 where its input is 0, and a bit has no third value"


@pytest.mark.parametrize(
    ("slope", "kind"), [(0.25, "Max"), (1.0, "Max"), (-0.5, "Max"), (1.5, "PRelu"), (0.0, "PRelu")]
)
def test_a_prelu_with_small_slopes_is_the_larger_of_two_products(slope: float, kind: str) -> None:
    g = Graph(np.random.default_rng(0))
    y = g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 8, 9, 3, 3)))
    model = g.model(["N", 9, 5, 5], g.node("PRelu", y, g.constant(np.full((8, 1, 1), slope))))
    made = lower(recognize(model)).model
    assert kind in {n.op_type for n in made.graph.node}
    x = g.rng.standard_normal((2, 9, 5, 5)).astype(np.float32)
    before, after = (next(iter(run(open_session(m, optimize=False), {"x": x}).values())) for m in (model, made))
    np.testing.assert_array_equal(before, after)
