"""Searches on a small network: limits are kept, points are told, the same is found twice."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.errors import Exit, NothingChanged, UsageError
from intaglio.graph.io.save import file_bytes, save, to_bytes
from intaglio.graph.model import Model
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.quantize import Quantize
from intaglio.passes.shorten import Shorten
from intaglio.pipeline.search.limits import Limits
from intaglio.pipeline.search.result import SearchResult
from intaglio.pipeline.search.search import search
from tests.passes.parsed import parsed

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@cache
def digits() -> Model:
    return load(EXAMPLES / "digits.onnx")


def context(*, data: bool = True, labels: bool = False) -> Context:
    calibration = open_data(str(EXAMPLES / "digits_calib.npz"), digits(), samples=48) if data else None
    return Context(calibration, open_data(str(EXAMPLES / "digits_test.npz"), digits()) if labels else None)


def found(**limits: float | str) -> SearchResult:
    return search(digits(), Limits.read(**limits), context())  # type: ignore[arg-type]


def result(told: SearchResult) -> Model:
    return told.changes[-1].model


def test_a_file_keeps_its_limit_and_the_same_is_found_twice(tmp_path: Path) -> None:
    first, second = (found(size="40KB") for _ in range(2))
    path = tmp_path / "small.onnx"
    save(result(first), path, recipe={"passes": [dict(one) for one in first.chosen.passes]})
    assert path.stat().st_size <= 40_000
    assert to_bytes(result(first)) == to_bytes(result(second))
    assert first.refusal is None
    assert len(first.points) > 1
    assert sum(one.chosen for one in first.points) == 1
    assert first.chosen.meets
    assert first.chosen.front
    assert {row["name"] for row in first.layers} >= {"/stem/stem.0/Conv"}
    assert all(row["why"] for row in first.layers)
    told = first.as_dict()
    assert {"name", "passes", "size_bytes", "meets", "front", "chosen"} <= told["points"][0].keys()


def test_two_limits_hold_at_once_and_the_passes_give_the_model_again() -> None:
    told = found(size=0.2, macs=0.6)
    assert told.chosen.kept["size_bytes"] <= 0.2
    assert told.chosen.kept["macs"] <= 0.6
    model = digits()
    for one in told.passes:
        model = one.run(model, context()).model
    assert to_bytes(model) == to_bytes(result(told))
    families = {one["pass"] for one in told.chosen.passes}
    assert "quantize" in families
    assert families & {"prune", "factorize"}


def test_where_integers_take_too_many_bytes_a_narrower_network_saves_the_time() -> None:
    told = found(size=0.1, latency=0.7)
    assert told.chosen.kept["size_bytes"] <= 0.1
    families = [[step["pass"] for step in one.passes] for one in told.points if not one.told]
    assert any(some[0] == "prune" and "quantize" in some for some in families)


def test_without_data_weights_are_rounded_by_themselves_and_that_is_told() -> None:
    told = search(digits(), Limits.read(size=0.2), context(data=False))
    assert told.chosen.kept["size_bytes"] <= 0.2
    assert any("without calibration data" in note for note in told.notes)


def test_where_limits_cannot_be_kept_the_nearest_is_found_and_the_least_told() -> None:
    told = search(digits(), Limits.read(size=0.03), context(data=False))
    assert told.refusal is not None
    assert told.refusal.exit_code == Exit.GATE_FAILED
    assert "is --size 0." in told.refusal.why
    least = float(told.refusal.why.rpartition(" ")[2])
    assert 0.03 < least < 0.15
    assert not told.chosen.meets
    assert not any(one.meets for one in told.points)


@pytest.mark.parametrize("limits", [{"macs": 1}, {"size": "500KB"}, {"macs": "30M", "params": "1M"}])
def test_limits_that_the_model_keeps_ask_for_nothing(limits: dict[str, float | str]) -> None:
    with pytest.raises(NothingChanged, match="as it is keeps the limits"):
        found(**limits)


def test_an_amount_above_what_the_model_has_limits_nothing_beside_one_that_does() -> None:
    told = found(size="500KB", macs=0.6)
    assert told.chosen.kept["macs"] <= 0.6
    assert "quantize" not in {one["pass"] for point in told.points for one in point.passes}


def test_with_labels_alone_limited_the_smallest_within_the_drop_is_found() -> None:
    told = search(digits(), Limits.read(1.0), context(labels=True))
    fits = [one for one in told.points if one.meets]
    assert told.chosen.size_bytes == min(one.size_bytes for one in fits)
    assert told.chosen.kept["size_bytes"] < 0.2
    before = search_accuracy(digits())
    assert before - search_accuracy(result(told)) <= 0.01
    assert told.chosen.accuracy
    with pytest.raises(UsageError, match="needs labelled data"):
        found(max_drop=1.0)


def search_accuracy(model: Model) -> float:
    with np.load(EXAMPLES / "digits_test.npz") as stored:
        scores = run(open_session(model), {"image": stored["image"]})["logits"]
        return float((scores.argmax(axis=1) == stored["labels"]).mean())


def test_time_is_limited_only_where_it_can_be_measured() -> None:
    with pytest.raises(UsageError, match="measured on this machine"):
        search(digits(), Limits.read(latency=0.5), context(), target="tensorrt")
    told = search(digits(), Limits.read(latency=0.95, size=0.3), context())
    assert all(one.latency_ratio is not None for one in told.points if not one.told)
    assert any("times were measured here" in note for note in told.notes)


def test_short_names_change_nothing_that_is_computed() -> None:
    small = Quantize(scheme="w2", method="nearest").run(digits()).model
    short = Shorten().run(small).model
    assert file_bytes(short) < 0.9 * file_bytes(small)
    x = {"image": np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)}
    before, after = (run(open_session(one), x) for one in (small, short))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert max(len(name) for name in short.weights) <= 2


def test_names_stay_where_bodies_read_them() -> None:
    model = parsed(
        "float[N, 4] x, bool c",
        "float[N, 4] y",
        "",
        "y = If (c) <then_branch = a () => (float[N, 4] u) { u = Relu(x) }, "
        "else_branch = b () => (float[N, 4] v) { v = Neg(x) }>",
    )
    assert not Shorten().run(model).changed
