"""Tiny layers that hurt most keep more bits, in both families and without labels or data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.layers import Layers
from intaglio.passes import Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.binarize.algorithms.binarizer import BitRule
from intaglio.passes.calibration import walk
from intaglio.passes.calibration.walk import glimpse, relative_error, solve_plainly
from intaglio.passes.precision.protect import Harm, protected
from intaglio.passes.quantize import Quantize
from tests.passes.parsed import parsed, run_plainly

EXAMPLES = Path(__file__).parents[3] / "examples"


def right(one: Pass) -> tuple[float, list[str]]:
    """The part of the bundled digits that is recognized after a pass without data, and what it tells."""
    change = one.run(load(EXAMPLES / "digits.onnx"))
    with np.load(EXAMPLES / "digits_test.npz") as test:
        scores = run_plainly(change.model, {"image": test["image"]}, ["logits"])["logits"]
        return float((scores.argmax(axis=1) == test["labels"]).mean()), list(change.notes)


def test_what_hurts_most_for_its_bytes_is_kept_while_there_is_room() -> None:
    layers = {
        "tiny": Harm("tiny", 0.2, 10, 40),
        "good": Harm("good", 0.01, 10, 40),
        "small": Harm("small", 0.2, 40, 160),
        "large": Harm("large", 0.3, 500, 2000),
    }
    assert protected(layers) == {"tiny"}
    assert not protected({"alone": Harm("alone", 0.5, 10, 11)})


def test_two_bits_without_data_keep_tiny_layers_of_the_digits_and_say_so() -> None:
    kept, notes = right(Quantize(scheme="w2"))
    (told,) = [note for note in notes if "--no-protect" in note]
    assert "/depthwise/depthwise.0/Conv" in told
    off, silent = right(Quantize(scheme="w2", protect=False))
    assert not [note for note in silent if "--no-protect" in note]
    assert kept > max(off, 0.9)


def test_a_small_layer_stays_in_floats_where_bits_save_little() -> None:
    model = parsed(
        "float[N, 64] x",
        "float[N, 64] y",
        "float[64, 24] a, float[24, 64] b, float[64, 1024] c, float[1024, 1024] d, float[1024, 64] e, float[64, 64] f",
        "p = MatMul(x, a) q = MatMul(p, b) r = Relu(q) s = MatMul(r, c) t = Relu(s) u = MatMul(t, d) v = Relu(u) "
        "w = MatMul(v, e) y = MatMul(w, f)",
    )
    change = Binarize().run(model)
    assert [why for why in change.details["skipped"].values() if "--no-protect" in why]
    assert len(Binarize(protect=False).run(model).layers) > len(change.layers)


@pytest.mark.parametrize("text", ["y = MatMul(x, w)", "y = Gemm <transB = 1> (x, w)"])
def test_harm_of_a_large_layer_is_judged_by_some_of_its_rows(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = parsed("float[N, 300] x", "float[N, 300] y", "float[300, 300] w", text)
    (one,), weight = Layers(model), np.random.default_rng(5).standard_normal((300, 300)).astype(np.float32)
    weight *= np.geomspace(1, 9, 300, dtype=np.float32).reshape((-1, 1) if one.axis == 0 else (1, -1))
    assert glimpse(one, weight) == (one, weight)
    rule = BitRule("xnor")
    whole = relative_error(one, weight, solve_plainly(rule, one, weight)[1])
    for most in (5000, 299, 1):
        monkeypatch.setattr(walk, "_GLIMPSE", most)
        part, few = glimpse(one, weight)
        assert part.shape == few.shape
        assert few.size <= max(most + 300, 300)
        assert part.matrix(few).shape == (1, few.size // 300, 300)
        np.testing.assert_array_equal(np.isin(part.matrix(few), one.matrix(weight)), True)
        near = relative_error(part, few, solve_plainly(rule, part, few)[1])
        assert near == pytest.approx(whole, rel=0.1 if most > 300 else 0.3)


def test_bits_without_data_give_what_batch_normalization_says_on_average() -> None:
    assert right(Binarize())[0] > 0.9
