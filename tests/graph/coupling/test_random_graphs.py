"""On random graphs over the whole operator table, pruning equals silencing, on every tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.coupling import Coupling, mask_removed
from intaglio.graph.io.save import to_proto

from .drawn import SCALE, Drawn, profile
from .equality import (
    analysed,
    assert_nothing_changes,
    choose,
    every_tensor,
    feeds_for,
    first_difference,
    verify,
)
from .random_graphs import Choice, Rolled, random_graph


@dataclass
class Case:
    """A random graph, analysed, with inputs; ``dynamic`` ones also take another batch."""

    choice: Choice
    coupling: Coupling
    shapes: dict[str, tuple[int, ...]]
    feeds: dict[str, np.ndarray]
    dynamic: bool


def case(choice: Choice, moves: int = 10) -> Case:
    proto, shapes = random_graph(choice, choice.integer(0, 9999), moves=moves)
    coupling = analysed(proto)
    assert coupling.trace.failures == []
    dynamic = any(d.dim_param for i in proto.graph.input for d in i.type.tensor_type.shape.dim)
    return Case(choice, coupling, shapes, feeds_for(shapes), dynamic)


@profile(100)
@given(st.data())
def test_removing_exact_channels_equals_silencing_them(data: st.DataObject) -> None:
    c = case(Drawn(data))
    removal = choose(c.coupling, c.choice.integer, wanted=lambda group: group.exact)
    verify(removal, c.feeds)
    gathers = [sum(n.op_type == "Gather" for n in m.graph.node) for m in (mask_removed(removal), c.coupling.original)]
    assert gathers[0] == gathers[1], "exact removals need no reference but zeros"


@profile(100)
@given(st.data())
def test_removing_any_channels_equals_normalizing_what_stays(data: st.DataObject) -> None:
    c = case(Drawn(data), moves=14)
    verify(choose(c.coupling, c.choice.integer), c.feeds)


@profile(30)
@given(st.data())
def test_a_single_group_goes_as_far_as_it_can(data: st.DataObject) -> None:
    c = case(Drawn(data))
    groups = [g for g in c.coupling.groups if g.prunable]
    if groups:
        chosen = groups[c.choice.integer(0, len(groups) - 1)]
        verify(choose(c.coupling, c.choice.integer, wanted=lambda group: group is chosen, most=True), c.feeds)


@profile(30)
@given(st.data())
def test_removing_nothing_changes_nothing(data: st.DataObject) -> None:
    c = case(Drawn(data))
    assert_nothing_changes(c.coupling, c.feeds)


@profile(30)
@given(st.data())
def test_a_pruned_graph_prunes_again(data: st.DataObject) -> None:
    c = case(Drawn(data))
    once = verify(choose(c.coupling, c.choice.integer), c.feeds)
    again = analysed(to_proto(once))
    verify(choose(again, c.choice.integer), c.feeds)


@profile(30)
@given(st.data())
def test_a_pruned_graph_with_a_dynamic_batch_takes_any_batch(data: st.DataObject) -> None:
    c = case(Drawn(data))
    if c.dynamic:
        removal = choose(c.coupling, c.choice.integer)
        pruned = verify(removal, c.feeds)
        for batch in (1, 5):
            feeds = feeds_for({name: (batch, *shape[1:]) for name, shape in c.shapes.items()})
            assert first_difference(removal, pruned, feeds) is None
            assert every_tensor(pruned, feeds)


@pytest.mark.parametrize("seed", range(5))
def test_large_random_graphs_prune(seed: int) -> None:
    """Not drawn by hypothesis, which prefers small ones."""
    for offset in range(8 * SCALE):
        c = case(Rolled(1000 * seed + offset), moves=20)
        for exact in (True, False):
            verify(choose(c.coupling, c.choice.integer, wanted=lambda g, e=exact: g.exact or not e), c.feeds)  # type: ignore[misc]
