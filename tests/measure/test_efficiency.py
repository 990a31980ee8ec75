"""BiBench's figures are those of its formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.cost import Cost, cost
from intaglio.graph.io.load import from_proto
from intaglio.measure.efficiency import efficiency, quadratic_mean, scores
from tests.packed import binary_cnn


def counted(macs: int, bops: int, weight_bytes: int) -> Cost:
    return Cost(0, macs, weight_bytes, 0, [], [], bops)


def test_a_layer_that_is_all_bits_computes_and_stores_as_much_less_as_bits_are_cheaper() -> None:
    found = efficiency(counted(6400, 0, 3200), counted(0, 6400, 100))
    assert (found.speedup, found.storage) == (64, 32)
    assert found.overall == pytest.approx(math.sqrt((64**2 + 32**2) / 2))


def test_what_stays_in_floats_bounds_what_is_saved() -> None:
    found = efficiency(counted(1000, 0, 400), counted(100, 900, 40 + 12))
    assert found.speedup == pytest.approx(1000 / (100 + 900 / 64))
    assert found.storage == pytest.approx(400 / 52)


def test_a_network_beside_itself_saves_nothing() -> None:
    same = cost(from_proto(binary_cnn()))
    assert efficiency(same, same).as_dict() == {"speedup": 1, "storage": 1, "overall": 1}


def test_nothing_left_is_infinitely_less() -> None:
    assert efficiency(counted(1, 0, 1), counted(0, 0, 1)).speedup == math.inf
    assert efficiency(counted(0, 0, 1), counted(0, 0, 1)).speedup == 1


def test_relative_scores_are_in_percent_of_the_original_and_overall_their_quadratic_mean() -> None:
    found = scores({"digits": 0.8, "sounds": 0.5}, {"digits": 0.6, "sounds": 0.5})
    assert found.relative == {"digits": pytest.approx(75), "sounds": 100}
    assert found.overall == pytest.approx(math.sqrt((75**2 + 100**2) / 2))


@given(st.lists(st.floats(0.01, 100), min_size=1))
def test_a_quadratic_mean_lies_between_the_mean_and_the_largest(values: list[float]) -> None:
    mean = quadratic_mean(values)
    assert sum(values) / len(values) <= mean * (1 + 1e-12)
    assert mean <= max(values) * (1 + 1e-12)


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 0.0}, {"a": 0.0})])
def test_tasks_that_cannot_be_compared_are_refused(before: dict[str, float], after: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"differ|nothing"):
        scores(before, after)
