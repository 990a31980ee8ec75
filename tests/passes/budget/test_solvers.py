"""The budget solvers against all choices tried out, and against the limits they are given."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.errors import TargetUnreachable
from intaglio.passes.budget.latency_target import LatencyReport
from intaglio.passes.budget.solvers import SOLVERS, Item, solve_exact, solve_greedy

ROUNDING = 1e-9


def cost(items: Sequence[Item], choice: Sequence[int]) -> float:
    return math.fsum(i.cost[c] for i, c in zip(items, choice, strict=True))


def loss(items: Sequence[Item], choice: Sequence[int]) -> float:
    return math.fsum(i.loss[c] for i, c in zip(items, choice, strict=True))


def brute_force(items: Sequence[Item], limit: float) -> float:
    """Least loss of all choices within the limit; infinite if there is none."""
    choices = product(*(range(len(i.cost)) for i in items))
    return min((loss(items, c) for c in choices if cost(items, c) <= limit), default=math.inf)


def item_of(costs: st.SearchStrategy[float], losses: st.SearchStrategy[float]) -> st.SearchStrategy[Item]:
    options = st.lists(st.tuples(costs, losses), min_size=1, max_size=4)
    return options.map(lambda o: Item(np.array([c for c, _ in o]), np.array([x for _, x in o])))


def items_of(costs: st.SearchStrategy[float], losses: st.SearchStrategy[float]) -> st.SearchStrategy[list[Item]]:
    return st.lists(item_of(costs, losses), min_size=1, max_size=6)


LOSSES = st.one_of(st.floats(-10, 1e6), st.sampled_from([0.0, 1.0, math.inf]))
FLOATS = items_of(st.floats(0, 100), LOSSES).filter(lambda items: all(np.isfinite(i.loss).any() for i in items))
WHOLE = items_of(st.integers(0, 12).map(float), st.integers(0, 9).map(float))
SHARES = st.floats(0, 1.1)


def limit_at(items: Sequence[Item], share: float) -> float:
    """A limit between the cheapest and the dearest choice that is allowed."""
    allowed = [i.cost[np.isfinite(i.loss)] for i in items]
    low, high = math.fsum(c.min() for c in allowed), math.fsum(c.max() for c in allowed)
    return low + share * (high - low)


def curves(count: int, options: int, seed: int = 0) -> list[Item]:
    """Items like measured ones: losses fall with cost, but not evenly."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        c = np.sort(rng.uniform(0, rng.uniform(1, 100), options))
        found.append(Item(c, rng.uniform(0.1, 10) * np.exp(-3 * c / c[-1]) * rng.uniform(0.7, 1.3, options)))
    return found


def straight(count: int, options: int) -> list[Item]:
    """The hardest kind: every choice of the same cost has the same loss, so that no bound tells them apart."""
    rng = np.random.default_rng(0)
    costs = [np.sort(rng.uniform(0, rng.uniform(1, 100), options)) for _ in range(count)]
    return [Item(c, 100 - c) for c in costs]


def half(items: Sequence[Item]) -> float:
    return 0.5 * math.fsum(i.cost.max() for i in items)


@given(FLOATS, SHARES)
@settings(max_examples=300, deadline=None)
def test_exact_equals_the_best_of_all_choices(items: list[Item], share: float) -> None:
    limit = limit_at(items, share)
    best, found = brute_force(items, limit), loss(items, solve_exact(items, limit))
    assert found <= best + ROUNDING * max(1, abs(best))


@given(WHOLE, st.integers(0, 80))
@settings(max_examples=300, deadline=None)
def test_whole_costs_are_solved_exactly_with_as_many_cells_as_there_are_costs(items: list[Item], extra: int) -> None:
    room = min(extra, int(sum(np.ptp(i.cost) for i in items)))
    limit = sum(i.cost.min() for i in items) + room
    choice = solve_exact(items, limit, cells=room + 1)
    assert cost(items, choice) <= limit
    assert loss(items, choice) == brute_force(items, limit)


def table(items: Sequence[Item], limit: int) -> float:
    """Least loss within a limit for whole costs, by the textbook's table."""
    best = [0.0] * (limit + 1)
    for item in items:
        options = [(int(c), float(x)) for c, x in zip(item.cost, item.loss, strict=True)]
        best = [min((best[at - c] + x for c, x in options if c <= at), default=math.inf) for at in range(limit + 1)]
    return best[limit]


@pytest.mark.parametrize("spread", [3, 50])
@pytest.mark.parametrize("seed", range(15))
def test_many_items_that_bounds_hardly_tell_apart_are_solved_exactly(seed: int, spread: int) -> None:
    """Losses near a line in the costs; with just as many cells as there are costs, and with more."""
    rng = np.random.default_rng(seed)
    costs = [rng.integers(0, 30, 12).astype(float) for _ in range(15)]
    items = [Item(c, 100 - 2 * c + rng.integers(0, spread, 12)) for c in costs]
    limit = int(half(items))
    expected = table(items, limit)
    for cells in (limit + 1, 4000):
        choice = solve_exact(items, limit, cells=cells)
        assert cost(items, choice) <= limit
        assert loss(items, choice) == expected


@given(FLOATS, SHARES, st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_few_cells_cost_at_most_one_range_of_the_limit_per_item(items: list[Item], share: float, cells: int) -> None:
    limit = limit_at(items, share)
    room = limit - limit_at(items, 0)
    found = loss(items, solve_exact(items, limit, cells=cells))
    bound = brute_force(items, limit - len(items) * room / cells)
    assert found <= bound + ROUNDING * max(1, abs(bound))


@pytest.mark.parametrize("name", sorted(SOLVERS))
@given(items=FLOATS, share=SHARES)
@settings(max_examples=200, deadline=None)
def test_every_solver_keeps_the_limit_and_leaves_forbidden_options(name: str, items: list[Item], share: float) -> None:
    limit = limit_at(items, share)
    choice = SOLVERS[name](items, limit)
    assert cost(items, choice) <= limit * (1 + ROUNDING)
    assert math.isfinite(loss(items, choice))
    assert choice == SOLVERS[name](items, limit)


@given(FLOATS, SHARES, st.sampled_from([2, 30, 4000]))
@settings(max_examples=200, deadline=None)
def test_greedy_is_never_better_than_exact(items: list[Item], share: float, cells: int) -> None:
    limit = limit_at(items, share)
    greedy, exact = solve_greedy(items, limit), solve_exact(items, limit, cells=cells)
    assert loss(items, exact) <= loss(items, greedy) + ROUNDING * max(1, abs(loss(items, greedy)))


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_no_single_change_that_fits_would_help(name: str, share: float) -> None:
    for seed in range(10):
        items = curves(8, 6, seed)
        limit = limit_at(items, share)
        choice = SOLVERS[name](items, limit)
        reached = loss(items, choice)
        for k, item in enumerate(items):
            for other in range(len(item.cost)):
                changed = [*choice[:k], other, *choice[k + 1 :]]
                assert cost(items, changed) > limit or loss(items, changed) >= reached * (1 - ROUNDING)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_order_of_items_and_options_does_not_matter(name: str) -> None:
    items = curves(12, 16)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(items))
    turns = [rng.permutation(16) for _ in items]
    shuffled = [Item(items[i].cost[turns[i]], items[i].loss[turns[i]]) for i in order]
    choice, other = SOLVERS[name](items, half(items)), SOLVERS[name](shuffled, half(items))
    assert {int(i): int(turns[i][c]) for i, c in zip(order, other, strict=True)} == dict(enumerate(choice))


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_of_equal_options_the_first_is_taken(name: str) -> None:
    item = Item(np.array([2.0, 1.0, 1.0, 2.0]), np.array([3.0, 3.0, 3.0, 1.0]))
    assert SOLVERS[name]([item, item], 2) == [1, 1]
    assert SOLVERS[name]([item, item], 4) == [3, 3]


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_more_cost_is_not_spent_where_it_does_not_help(name: str) -> None:
    """Losses of real layers sometimes rise with cost."""
    item = Item(np.array([1.0, 2.0, 3.0]), np.array([5.0, 1.0, 4.0]))
    assert SOLVERS[name]([item] * 3, math.inf) == [1, 1, 1]


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_limit_below_the_cheapest_options_is_refused_with_the_lowest_that_is_not(name: str) -> None:
    item = Item(np.array([1.0, 2.0]), np.array([np.inf, 0.0]))
    assert SOLVERS[name]([item] * 3, 6) == [1, 1, 1]
    with pytest.raises(TargetUnreachable, match=r"cost 6 together, more than the limit 5\.9") as caught:
        SOLVERS[name]([item] * 3, 5.9)
    assert "allow 6" in caught.value.fix


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_an_item_whose_options_are_all_forbidden_is_named(name: str) -> None:
    bad = Item(np.ones(2), np.full(2, np.inf))
    with pytest.raises(TargetUnreachable, match="item 1 "):
        SOLVERS[name]([Item(np.ones(1), np.ones(1)), bad], 10)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_limit_met_up_to_rounding_is_met(name: str) -> None:
    items = [Item(np.array([0.1, 0.2]), np.array([1.0, 0.0])), Item(np.array([0.2, 0.3]), np.array([1.0, 0.0]))]
    assert SOLVERS[name](items, 0.3) == [0, 0]
    assert 0.1 + 0.2 > 0.3


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_nothing_to_choose_is_no_trouble(name: str) -> None:
    assert SOLVERS[name]([], 1) == []
    assert SOLVERS[name]([Item(np.ones(1), np.ones(1))], 1) == [0]


@pytest.mark.parametrize(
    ("costs", "losses"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [np.nan]), ([1.0], [-np.inf])]
)
def test_what_is_no_item_is_refused(costs: list[float], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="cost"):
        Item(np.array(costs), np.array(losses))


def test_exact_beats_greedy_where_the_hull_misleads() -> None:
    """The whole room for the dear option is worth more than the steep start of the others."""
    items = [Item(np.array([0.0, 10.0]), np.array([100.0, 0.0])), Item(np.array([0.0, 1.0]), np.array([11.0, 0.0]))]
    assert solve_exact(items, 10) == [1, 0]
    assert brute_force(items, 10) == 11


@pytest.mark.parametrize("items", [curves(60, 64), straight(60, 64)], ids=["curves", "straight"])
def test_a_large_network_is_solved_fast_and_to_the_limit(items: list[Item]) -> None:
    limit = half(items)
    start = time.perf_counter()
    exact = solve_exact(items, limit)
    assert time.perf_counter() - start < 5  # 0.1 s and 0.7 s, on a machine that does nothing else
    assert cost(items, exact) <= limit * (1 + ROUNDING)
    assert cost(items, exact) >= 0.999 * limit
    assert loss(items, exact) <= loss(items, solve_greedy(items, limit))


def test_ranges_hide_next_to_nothing_of_a_large_network() -> None:
    """A twentieth of the cells finds all but a thousandth of what all of them find."""
    items = curves(60, 64)
    few, many = (loss(items, solve_exact(items, half(items), cells=cells)) for cells in (200, 4000))
    assert many <= few <= many * 1.001


def test_a_slower_result_is_refused_with_its_times() -> None:
    found = LatencyReport(0.5, 0.5, 1.2, 1.0, 1.2, rounds=1, threads=1, machine="", slower=True)
    refusal = found.refusal("pruned", why="narrow layers", fix="or write it")
    assert refusal is not None
    assert refusal.what == (
        "the pruned model is slower than the original: 120.0% of its time (1.2 ms against 1 ms, 1 thread); "
        "nothing was written"
    )
    assert refusal.fix == "ask for a smaller --latency, or write it all the same with --force"
    assert replace(found, slower=False).refusal("pruned", why="", fix="") is None
