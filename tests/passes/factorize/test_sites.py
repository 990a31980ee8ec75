"""Which layers can be split, and what is said of those that cannot."""

from __future__ import annotations

import numpy as np

from intaglio.graph.model import Model
from intaglio.measure.run.inputs import random_inputs
from intaglio.measure.run.session import open_session, run
from intaglio.passes.factorize import SCHEMES
from intaglio.passes.factorize.rewrite import apply, split
from intaglio.passes.factorize.sites import find
from intaglio.passes.simplify import Names
from tests.passes.parsed import parsed

from .layers import gap


def reasons(model: Model) -> dict[str, str]:
    return {w.op: w.reason for w in find(model)[1]}


def test_a_batch_of_matrices_is_refused_with_the_reason() -> None:
    model = parsed("float[2, 3, 4] x", "float[2, 3, 5] y", "float[2, 4, 5] w", "y = MatMul(x, w)")
    assert "a batch of matrices" in reasons(model)["MatMul"]


def test_a_computed_weight_is_refused_and_its_maker_named() -> None:
    model = parsed("float[1, 4, 5, 5] x", "float[1, 4, 5, 5] y", "float[4, 4, 1, 1] w", "a = Abs(w)\ny = Conv(x, a)")
    assert "computed by Abs" in reasons(model)["Conv"]


def test_transposed_convolutions_are_listed() -> None:
    model = parsed("float[1, 4, 5, 5] x", "float[1, 4, 5, 5] y", "float[4, 4, 1, 1] w", "y = ConvTranspose(x, w)")
    assert "not split" in reasons(model)["ConvTranspose"]


def test_products_of_activations_are_no_layers() -> None:
    model = parsed("float[2, 3, 4] x, float[2, 4, 3] z", "float[2, 3, 3] y", "", "y = MatMul(x, z)")
    assert find(model) == ([], [])


def test_a_weight_that_something_else_reads_stays_whole() -> None:
    model = parsed("float[2, 4] x", "float[2, 4] y, float[4, 4] z", "float[4, 4] w", "y = MatMul(x, w)\nz = Abs(w)")
    assert "also read by" in reasons(model)["MatMul"]


def test_a_weight_shared_in_two_forms_stays_whole() -> None:
    model = parsed("float[4, 4] x", "float[4, 4] y", "float[4, 4] w", "h = MatMul(x, w)\ny = MatMul(w, h)")
    assert "shared in another form" in reasons(model)["MatMul"]


def test_a_shared_weight_is_split_once() -> None:
    model = parsed("float[3, 8] x", "float[3, 8] y", "float[8, 8] w", "h = MatMul(x, w)\nr = Relu(h)\ny = MatMul(r, w)")
    (unit,), _ = find(model)
    assert len(unit.sites) == 2
    scheme = SCHEMES["svd"]
    factors = scheme.factor(unit.site, unit.matrices(model), 8)
    small = apply(model, [split(model, unit, scheme, factors, Names(model))])
    assert len(small.weights) == 2
    assert len(small.graph.node) == 5
    feed = random_inputs(model)
    a, b = (run(open_session(m), feed)["y"] for m in (model, small))
    assert gap(a, b) < 1e-5


def test_weights_of_eight_bits_are_listed() -> None:
    model = parsed(
        "float[1, 4, 5, 5] x",
        "float[1, 4, 5, 5] y",
        "int8[4, 4, 1, 1] w, float s",
        "d = DequantizeLinear(w, s)\ny = Conv(x, d)",
        w=np.ones((4, 4, 1, 1), np.int8),
        s=np.array(0.5, np.float32),
    )
    assert "computed by DequantizeLinear" in reasons(model)["Conv"]
