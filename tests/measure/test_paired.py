"""Losses on the same samples: the interval holds what it says, the test is McNemar's, few data are called few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from intaglio.measure.accuracy import Evaluation
from intaglio.measure.paired import Drop, bootstrap, drops, mcnemar, told

RNG = np.random.default_rng(7)


def answers(both: int, lost: int, won: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, lost, won, neither)
    return np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (6, 6), (12, 3), (3, 12), (0, 9), (40, 22)])
def test_the_p_value_is_that_of_a_coin(lost: int, won: int) -> None:
    drop = mcnemar(*answers(100, lost, won, 10))
    expected = binomtest(min(lost, won), lost + won).pvalue if lost + won else 1.0
    assert drop.p_value == pytest.approx(expected)
    assert (drop.lost, drop.won) == (lost, won)
    assert drop.points == pytest.approx(100 * (lost - won) / (110 + lost + won))
    assert drop.low <= drop.points <= drop.high


@pytest.mark.parametrize(
    ("samples", "lost", "won"), [(50, 0.06, 0.02), (400, 0.02, 0.01), (400, 0.1, 0.1), (60, 0.0, 0.0)]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(samples: int, lost: float, won: float) -> None:
    drawn = RNG.multinomial(samples, [0.8 - lost, lost, won, 0.2 - won], size=2000)
    found = [mcnemar(*answers(*row)) for row in drawn]
    held = np.mean([drop.low <= 100 * (lost - won) <= drop.high for drop in found])
    assert held >= 0.935


def test_scores_that_are_no_answers_are_drawn_anew() -> None:
    old = RNG.uniform(size=500)
    new = old - RNG.normal(0.02, 0.1, size=500)
    drop = bootstrap(old, new)
    half = 100 * 1.96 * (old - new).std() / 500**0.5
    assert drop.points == pytest.approx(100 * (old - new).mean())
    assert (drop.high - drop.low) / 2 == pytest.approx(half, rel=0.1)
    assert drop == bootstrap(old, new)
    assert drop.p_value is None


def test_only_metrics_that_score_samples_have_an_interval() -> None:
    scores = {"top1": np.array([1.0, 0, 1, 1]), "soft": np.array([0.5, 0.2, 0.1, 0.4])}
    before = Evaluation(4, {"top1": 0.75, "soft": 0.3, "whole": 0.5}, 0.0, scores)
    after = Evaluation(4, {"top1": 0.5, "soft": 0.2, "whole": 0.5}, 0.0, {**scores, "top1": np.array([1.0, 0, 0, 1])})
    found = drops(before, after)
    assert (found["whole"].points, found["whole"].samples) == (0.0, 4)
    assert np.isnan([found["whole"].low, found["whole"].high]).all()
    assert (found["top1"].points, found["top1"].lost) == (25.0, 1)
    assert found["soft"].lost is None


def test_few_data_are_called_few_and_enough_are_not() -> None:
    few, many = mcnemar(*answers(180, 6, 4, 10)), mcnemar(*answers(36000, 1200, 800, 2000))
    assert "too few to tell whether it loses any" in told("top1", few)
    assert "too few" not in told("top1", many)
    assert "too few to tell whether it loses more than 2; about" in told("top1", few, 2.0)
    assert (few.enough_for(20.0), many.enough_for(2.0)) == (None, None)
    enough = few.enough_for(2.0)
    assert enough is not None
    times = enough / few.samples
    again = mcnemar(*answers(*(round(count * times * 1.3) for count in (180, 6, 4, 10))))
    assert again.high < 2.0
    assert Drop.of(few.as_dict()) == few
