"""Choices under several limits, against all that there are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from intaglio.graph.errors import TargetUnreachable
from intaglio.passes.budget.several import Ways, solve_several


def items(seed: int, kinds: int) -> list[Ways]:
    random = np.random.default_rng(seed)
    return [Ways(random.uniform(1, 9, (4, kinds)), random.uniform(0, 1, 4)) for _ in range(5)]


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_choice_within_all_limits_loses_less(seed: int, kinds: int) -> None:
    some = items(seed, kinds)
    limits = [22.0, 26.0, 30.0][:kinds]

    def costs(choice: tuple[int, ...]) -> np.ndarray:
        return np.asarray(sum(one.costs[k] for one, k in zip(some, choice, strict=True)))

    def loss(choice: tuple[int, ...]) -> float:
        return sum(float(one.loss[k]) for one, k in zip(some, choice, strict=True))

    found = tuple(solve_several(some, limits))
    assert (costs(found) <= limits).all()
    least = min(loss(one) for one in product(range(4), repeat=5) if (costs(one) <= limits).all())
    assert loss(found) == pytest.approx(least, rel=2e-3)


def test_what_is_forbidden_is_not_chosen_and_limits_that_nothing_keeps_are_told() -> None:
    free = Ways(np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([np.inf, 0.5]))
    assert solve_several([free], [9.0, 9.0]) == [1]
    for limits in ([9.0, 1.5], [1.5]):
        with pytest.raises(TargetUnreachable):
            solve_several([Ways(free.costs[:, : len(limits)], free.loss)], limits)
