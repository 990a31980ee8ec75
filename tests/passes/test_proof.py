"""The proof that two models are equal: at which sizes it runs, and what its measure of rounding leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.errors import ProofFailed
from intaglio.graph.model import Model
from intaglio.passes.proof import Claim, proof_inputs, prove_equal, setting_shapes
from tests.passes.parsed import parsed

CLAIM = Claim("small", "part", "the original")
LAYERS = "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) "


def scaled(numbers: str, k: int, **more: int) -> Model:
    weights = "float[6, 12] w1, float[12, 3] w2, int64[1] k, int64[1] four"
    text = f"{LAYERS} l = Shape <start = 1, end = 2> (x) b0 = Shape <start = 0, end = 1> (x) {numbers} f = Cast <to = 1> (n) y = Mul(c, f)"
    return parsed("float[B, T, 6] x", "float[B, T, 3] y", weights, text, k=np.array([k]), four=np.array([4]))


def prove(original: Model, result: Model) -> None:
    prove_equal(original, result, ["y"], proof_inputs(original, [], 0), CLAIM)


@pytest.mark.parametrize(
    ("numbers", "folded", "k"),
    [
        ("n = Min(l, k)", "n = Identity(k)", 4),
        ("n = Min(l, k)", "n = Identity(l)", 40),
        ("n = Max(l, k)", "n = Identity(l)", 1),
        ("n = Max(l, k)", "n = Identity(l)", 3),
        ("e = Equal(b0, k) i = Cast <to = 7> (e) n = Add(i, four)", "n = Identity(four)", 1),
        ("e = Equal(l, k) i = Cast <to = 7> (e) n = Add(i, four)", "n = Identity(four)", 37),
        ("m = Mul(l, b0) n = Min(m, k)", "n = Mul(l, b0)", 30),
    ],
)
def test_a_constant_that_holds_on_one_side_alone_is_refuted(numbers: str, folded: str, k: int) -> None:
    original = scaled(numbers, k)
    prove(original, scaled(numbers, k))
    if (numbers, k) == ("n = Max(l, k)", 1):
        prove(original, scaled(folded, k))  # lengths are 1 or more
        return
    with pytest.raises(ProofFailed, match="difference"):
        prove(original, scaled(folded, k))


def test_a_proof_runs_at_sizes_that_the_model_takes() -> None:
    """Heads of 4 fit lengths that are multiples of 4 alone."""
    text = "r = Reshape(x, s) t = Relu(r) q = Reshape(t, back) y = MatMul(q, w)"
    values = {"s": np.array([-1, 4, 6]), "back": np.array([1, -1, 24])}
    model = parsed("float[1, T, 6] x", "float[1, n, 3] y", "float[24, 3] w, int64[3] s, int64[3] back", text, **values)
    feeds, told = proof_inputs(model, [], 0)
    lengths = [feed["x"].shape[1] for feed in feeds]
    assert told == "made-up"
    assert lengths == [8, 16]


def test_a_model_without_free_sizes_is_proved_on_one_input() -> None:
    model = parsed("float[2, 6] x", "float[2, 3] y", "float[6, 3] w", "y = MatMul(x, w)")
    assert len(proof_inputs(model, [], 0)[0]) == 1


def test_numbers_that_set_shapes_are_no_weights() -> None:
    text = 'half = Mul(whole, part) s = Concat <axis = 0> (ones, half) a = Conv <pads=[1,1,1,1]> (x, w) u = Resize <mode = "nearest"> (a, , s) y = Conv <pads=[1,1,1,1]> (u, v)'
    weights = "float[4, 3, 3, 3] w, float[5, 4, 3, 3] v, float[2] whole, float[1] part, float[2] ones"
    model = parsed("float[1, 3, 8, 8] x", "float[1, 5, n, m] y", weights, text)
    assert setting_shapes(model) & set(model.weights) == {"whole", "part", "ones"}


def test_rounding_is_measured_behind_a_resize() -> None:
    """The sine of large numbers amplifies rounding, so that the proof asks how much; a scale of 1.9999995 cuts an index."""
    text = (
        "a = Conv <pads=[1,1,1,1]> (x, w) p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (a) "
        'u = Resize <mode = "nearest"> (p, , s) t = Add(a, u) z = Mul(t, big) y = Sin(z)'
    )
    weights = "float[4, 3, 3, 3] w, float[4] s, float[1] big"
    values = {"s": np.array([1, 1, 2, 2], np.float32), "big": np.array([3e4], np.float32)}
    model = parsed("float[1, 3, 8, 8] x", "float[1, 4, 8, 8] y", weights, text, **values)
    moved = model.copy()
    moved.weights["w"] = np.asarray(model.weights["w"] * np.float32(1 + 2e-7), dtype=np.float32)
    proof = prove_equal(model, moved, ["y"], proof_inputs(model, [], 0), CLAIM)
    assert proof.noisy == 1


def test_a_proof_in_many_parts_says_what_one_in_a_piece_says() -> None:
    text = (
        "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) l = Shape(c) d = Reshape(x, s) e = Add(a, b) y = Identity(c)"
    )
    model = parsed(
        "float[B, T, 6] x",
        "float[B, T, 3] y",
        "float[6, 12] w1, float[12, 3] w2, int64[2] s",
        text,
        s=np.array([-1, 6]),
    )
    names, inputs = ["a", "b", "c", "d", "e", "y"], proof_inputs(model, [], 0)
    whole, parts = (prove_equal(model, model, names, inputs, CLAIM, memory=memory) for memory in (1 << 29, 1))
    assert whole == parts
    other = model.copy()
    other.weights["w2"] = other.weights["w2"] * np.float32(1.01)
    with pytest.raises(ProofFailed, match="MatMul"):
        prove_equal(model, other, names, inputs, CLAIM, memory=1)
