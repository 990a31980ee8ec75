"""Reductions. Sums lose nothing when an index that went counts as zero; means and maxima do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...nodes import as_ints
from ...traits import Trait, operators
from ..labels import LENGTH_ONE, Axes
from ..node import Node, couples


def _reduced(n: Node) -> set[int] | None:
    """The axes a node reduces over, or None where they are computed."""
    rank = n.rank(0)
    if n.has(1) and n.value(1) is None:
        return None
    axes = n.setting(1, "axes")
    if axes is None or axes.size == 0:
        return set() if n.attr("noop_with_empty_axes", 0) else set(range(rank))
    return {a % rank for a in as_ints(axes)}


def _reduce(n: Node, touch: Callable[[int], object]) -> Sequence[Axes]:
    """Say what happens to each axis that goes."""
    reduced = _reduced(n)
    if reduced is None:
        return n.frozen("reduces over computed axes")
    for a in reduced:
        touch(a)
    return [_without(n, reduced)]


def _without(n: Node, reduced: set[int]) -> Axes:
    if n.attr("keepdims", 1):
        return tuple(LENGTH_ONE if a in reduced else axis for a, axis in enumerate(n.axes(0)))
    return tuple(axis for a, axis in enumerate(n.axes(0)) if a not in reduced)


@couples(*operators(Trait.REDUCES | Trait.SUMS))
def sums(n: Node) -> Sequence[Axes]:
    return _reduce(n, lambda a: n.contract(0, a))


@couples("ReduceMean", "ReduceMax", "ReduceMin")
def mean(n: Node) -> Sequence[Axes]:
    """What stays gives another mean, and perhaps another extreme."""
    text = "averages over it" if n.op == "ReduceMean" else "takes an extreme over it"
    return _reduce(n, lambda a: n.inexact(n.axis(0, a), text))


@couples("ReduceProd", "ReduceLogSumExp")
def products(n: Node) -> Sequence[Axes]:
    return _reduce(n, lambda a: n.freeze_axis(0, a, "reduces over it, and zeros would count"))


@couples("ArgMax", "ArgMin")
def arg_extremes(n: Node) -> Sequence[Axes]:
    at = n.attr("axis", 0) % n.rank(0)
    n.freeze_axis(0, at, "numbers its indices")
    return [_without(n, {at})]


@couples("CumSum", "CumProd")
def cumulative(n: Node) -> Sequence[Axes]:
    """Zeros do not change the running sum at the indices that stay. For a product they would have to be ones."""
    at = n.value(1)
    if at is None:
        return n.frozen("accumulates over a computed axis")
    if n.op == "CumSum":
        n.contract(0, int(at.item()))
    else:
        n.freeze_axis(0, int(at.item()), "multiplies along it")
    return [n.axes(0)]
