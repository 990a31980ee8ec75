"""Accuracy is what counting by hand gives, ties and NaN included."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intaglio.graph.errors import BadData, UsageError
from intaglio.measure.accuracy import METRICS, TopK, class_labels, class_scores

SCORES = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.integers(-2, 2))


def ranked(scores: np.ndarray) -> list[int]:
    """Classes from the best to the worst; Python's sort keeps the lower class first among equals."""
    return sorted(range(len(scores)), key=lambda c: -float(scores[c]))


@given(scores=SCORES, k=st.integers(1, 5), data=st.data())
def test_top_k_counts_labels_among_the_k_best_the_lower_class_first_among_equals(
    scores: np.ndarray, k: int, data: st.DataObject
) -> None:
    labels = np.array([data.draw(st.integers(0, scores.shape[1] - 1)) for _ in scores])
    metric = TopK(k)
    metric.add({"y": scores[:2]}, labels[:2])
    metric.add({"y": scores[2:]}, labels[2:]) if len(scores) > 2 else None
    right = sum(int(label) in ranked(row)[:k] for row, label in zip(scores, labels, strict=True))
    assert metric.result() == right / len(scores)


@given(scores=SCORES)
def test_top1_agrees_with_argmax(scores: np.ndarray) -> None:
    metric = METRICS["top1"]()
    metric.add({"y": scores}, scores.argmax(axis=1))
    assert metric.result() == 1


def test_a_score_that_is_not_a_number_is_never_right() -> None:
    scores = np.array([[np.nan, 1.0], [np.nan, 1.0]], np.float32)
    metric = TopK(1)
    metric.add({"y": scores}, np.array([0, 1]))
    assert metric.result() == 0


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.array([2, 0], np.uint8), [2, 0]),
        (np.array([[2], [0]]), [2, 0]),
        (np.array([2.0, 0.0]), [2, 0]),
        (np.array([[0, 0, 1], [1, 0, 0]]), [2, 0]),
        (np.array([[0, 0, 1.0], [1, 0, 0]], np.float32), [2, 0]),
    ],
)
def test_labels_are_understood_in_the_forms_people_store(labels: np.ndarray, wanted: list[int]) -> None:
    assert class_labels(labels, 3).tolist() == wanted


@pytest.mark.parametrize(
    "labels",
    [np.array([3, 0]), np.array([-1, 0]), np.array([0.5, 1]), np.array([[1, 1, 0], [0, 0, 1]]), np.ones((2, 4))],
)
def test_labels_that_are_no_classes_of_the_model_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(BadData):
        class_labels(labels, 3)


def test_the_output_with_one_score_per_class_is_found() -> None:
    outputs: Mapping[str, np.ndarray] = {"map": np.ones((2, 3, 4)), "y": np.ones((2, 3, 1, 1)), "flag": np.ones((2, 1))}
    assert class_scores(outputs).shape == (2, 3)
    with pytest.raises(UsageError, match="several"):
        class_scores({"y": np.ones((2, 3)), "z": np.ones((2, 3))})
    with pytest.raises(BadData, match="no output"):
        class_scores({"map": np.ones((2, 3, 4))})
