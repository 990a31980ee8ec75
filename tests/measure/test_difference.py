"""Differences summed batch by batch are those of the whole, and odd values are counted, not hidden."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.errors import BadData, BadModel
from intaglio.measure.difference import Difference, add_outputs
from intaglio.measure.run.pairing import pair_ports
from intaglio.measure.run.tensor_specs import TensorSpec


def between(a: np.ndarray, b: np.ndarray, at: int | None = None) -> Difference:
    difference = Difference()
    for x, y in ((a[:at], b[:at]), (a[at:], b[at:])) if at else ((a, b),):
        difference.add(x, y)
    return difference


@given(seed=st.integers(0, 99), rows=st.integers(2, 9), data=st.data())
def test_batches_add_up_to_the_whole(seed: int, rows: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, 4)).astype(np.float32)
    b = a + rng.standard_normal((rows, 4)).astype(np.float32) / 10
    got = between(a, b, data.draw(st.integers(1, rows - 1)))
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert got.max_abs == np.abs(x - y).max()
    assert got.mean_abs == pytest.approx(np.abs(x - y).mean())
    assert got.max_rel == pytest.approx(np.abs(x - y).max() / np.abs(x).max())
    assert got.sqnr_db == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))
    assert got.top1_agreement == (a.argmax(1) == b.argmax(1)).mean()
    assert not got.identical


def test_equal_outputs_are_identical_with_infinite_sqnr() -> None:
    a = np.array([[1.0, np.nan, np.inf]])
    got = between(a, a.copy())
    assert (got.identical, got.max_abs, got.not_finite) == (True, 0, 0)
    assert math.isinf(got.sqnr_db)


def test_what_only_one_model_makes_infinite_is_counted() -> None:
    got = between(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, np.inf]))
    assert (got.not_finite, got.max_abs, got.identical) == (2, 0, False)


def test_integers_are_subtracted_without_wrapping() -> None:
    assert between(np.array([0], np.uint8), np.array([255], np.uint8)).max_abs == 255


def test_texts_and_sequences_are_compared_by_item() -> None:
    found: dict[str, Difference] = {}
    add_outputs(
        found,
        {"s": np.array(["a", "b"], object), "q": [np.ones(2), np.zeros(1)]},
        {"s": np.array(["a", "c"], object), "q": [np.ones(2), np.ones(1)]},
    )
    assert (found["s"].equal, found["s"].values) == (1, 2)
    assert found["q"].max_abs == 1


@pytest.mark.parametrize(("a", "b"), [(np.ones(2), np.ones(3)), ([np.ones(2)], [])])
def test_outputs_of_different_shape_are_refused_by_name(a: object, b: object) -> None:
    with pytest.raises(BadData, match="'y'"):
        add_outputs({}, {"y": a}, {"y": b})


def test_inputs_are_paired_by_name_and_otherwise_in_order() -> None:
    a, b, c = TensorSpec("a", 1, (1,)), TensorSpec("b", 1, (1,)), TensorSpec("c", 1, (1,))
    assert pair_ports([a, b], [b, a], "input") == {"a": "a", "b": "b"}
    assert pair_ports([a, b], [c, a], "input") == {"a": "c", "b": "a"}
    with pytest.raises(BadModel, match="2 inputs, B has 1"):
        pair_ports([a, b], [a], "input")
