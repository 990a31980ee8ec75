"""A latency target is met by measuring, whatever plans for it: here a plan of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.errors import TargetUnreachable
from intaglio.measure.run.latency import Timing
from intaglio.passes.budget.latency_target import Planned, meet_latency, report


class Truth:
    """A choice is a number of 48ths and is predicted to take so much; it takes a power of that and an offset."""

    def __init__(self, power: float = 1.0, offset: float = 0.0, least: float = 0.0) -> None:
        self.power, self.offset, self.least = power, offset, least
        self.goals: list[float] = []

    def plan(self, goal: float) -> Planned[int]:
        self.goals.append(goal)
        if goal < max(self.least, 1 / 48):
            raise TargetUnreachable("too little")
        choice = int(goal * 48)
        return Planned(choice, choice / 48, choice)

    def kept(self, choice: int) -> float:
        return float((choice / 48) ** self.power + self.offset)

    def time(self, choice: int) -> Timing:
        return Timing(np.array([[2.0] * 40, [2.0 * self.kept(choice)] * 40]), 1, "a machine")


@pytest.mark.parametrize("power", [0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("keep", [0.7, 0.5])
def test_the_target_is_met_though_predictions_are_wrong(power: float, keep: float) -> None:
    truth = Truth(power)
    choice, result = meet_latency(truth.plan, truth.time, keep)
    assert result.verdict == "met"
    assert result.asked == keep
    assert result.kept <= keep * 1.03
    assert result.kept == pytest.approx(truth.kept(choice)) == pytest.approx(result.after_ms / result.before_ms)
    assert result.predicted == pytest.approx(choice / 48)
    assert 1 <= result.rounds <= 4


def test_a_right_prediction_needs_one_round() -> None:
    truth = Truth()
    _, result = meet_latency(truth.plan, truth.time, 0.5)
    assert truth.goals == [0.5]
    assert result.rounds == 1


def test_of_what_meets_the_target_the_largest_is_kept() -> None:
    truth = Truth(power=2.0)
    _, result = meet_latency(truth.plan, truth.time, 0.4)
    assert truth.goals[1] > truth.goals[0]
    assert 0.4**2 < result.kept <= 0.4 * 1.03


def test_a_target_out_of_reach_is_missed_by_as_much_as_is_told() -> None:
    truth = Truth(offset=0.3, least=0.3)
    _, result = meet_latency(truth.plan, truth.time, 0.4)
    assert result.verdict == "missed"
    assert result.missed_by == pytest.approx(result.kept - 0.4)
    assert result.kept < truth.kept(int(0.4 * 48))
    assert "missed by" in result.sentence()
    assert result.as_dict()["verdict"] == "missed"


def test_a_plan_that_fails_at_once_is_the_callers_error() -> None:
    truth = Truth(least=0.9)
    with pytest.raises(TargetUnreachable):
        meet_latency(truth.plan, truth.time, 0.5)


def test_a_result_slower_than_the_original_is_told() -> None:
    times = np.array([[1.0] * 30, [1.2] * 30])
    result = report(0.6, 0.58, Timing(times, 2, "a machine"))
    assert result.verdict == "slower"
    assert result.sentence() == "slower than the original: 120.0% of its time (1.2 ms against 1 ms, 2 threads)"
