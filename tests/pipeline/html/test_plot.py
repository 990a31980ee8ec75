"""Whatever the points are, they lie inside of the picture, in order, between round numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.pipeline.html.plot import Axis, Plot, plots

LEFT = st.floats(1e-4, 1.0) | st.floats(0.9, 5.0)
QUALITY = st.floats(0.0, 1.0) | st.sampled_from([0.0, 1.0, 0.9])
POINTS = st.lists(st.tuples(LEFT, LEFT, QUALITY | st.none(), st.floats(-5, 60)), min_size=2, max_size=30)


def report(points: list[Any], labelled: bool, limit: float | None) -> dict[str, Any]:
    told = [
        {
            "name": str(number),
            "kept": {"size_bytes": size},
            "latency_ratio": time,
            "accuracy": None if quality is None or not labelled else {"top1": quality},
            "sqnr_db": noise,
            "chosen": number == 0,
        }
        for number, (size, time, quality, noise) in enumerate(points)
    ]
    limits = {} if limit is None else {"size": {"value": limit, "absolute": False}, "max_drop": 1.0}
    accuracy = {"before": {"top1": 0.9}, "after": {"top1": points[0][2] or 0.0}} if labelled else None
    return {"points": told, "limits": limits, "accuracy": accuracy}


def left(plot: Plot, point: dict[str, Any]) -> float:
    return float(point["latency_ratio"] if plot.key == "latency" else point["kept"]["size_bytes"])


def good(point: dict[str, Any]) -> float:
    return float(point["accuracy"]["top1"] if point["accuracy"] else point["sqnr_db"])


@settings(max_examples=200, deadline=None)
@given(POINTS, st.booleans(), st.none() | st.floats(0.01, 1.0))
def test_points_lie_inside_and_in_order(points: list[Any], labelled: bool, limit: float | None) -> None:
    told = report(points, labelled, limit)
    for plot in plots(told):
        drawn = [(mark, told["points"][mark.row]) for mark in plot.marks if mark.row is not None]
        assert all(0 <= mark.x <= 100 and 0 <= mark.y <= 100 for mark in plot.marks)
        assert len(drawn) + plot.hidden == len(points)
        for a, one in drawn:
            assert all(a.x <= b.x for b, other in drawn if left(plot, one) <= left(plot, other))
            assert all(a.y >= b.y for b, other in drawn if good(one) <= good(other))
        for ticks in (plot.x_ticks, plot.y_ticks):
            assert all(0 <= at <= 100 for at, _ in ticks)
            assert len({text for _, text in ticks}) == len(ticks)
        assert all(x1 <= x2 and y1 >= y2 for x1, y1, x2, y2 in plot.front)


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e5), st.booleans())
def test_an_axis_has_a_few_round_numbers_between_its_ends(low: float, factor: float, log: bool) -> None:
    axis = Axis(low, low * factor, log and factor >= 3)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))


def test_outputs_that_are_the_original_s_leave_the_others_room() -> None:
    points = [
        {"name": name, "kept": {"size_bytes": left}, "size_bytes": 1000 * left, "sqnr_db": noise}
        for name, left, noise in (("rough", 0.1, 8.0), ("near", 0.5, 30.0), ("original", 1.0, 300.0))
    ]
    size, *_ = plots({"points": points, "limits": {"size": {"value": 0.5, "absolute": False}}})
    rough, near, original = sorted(
        (mark for mark in size.marks if mark.row is not None), key=lambda mark: mark.row or 0
    )
    assert original.y == 0
    assert near.y < 20
    assert rough.y > 80
