"""Times of trials that another machine measures: here one that is this machine, but knows nothing of us."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from intaglio.graph.errors import UsageError
from intaglio.pipeline.study.search import Searching, search

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.onnx"


def given(tmp_path: Path, command: str, **more: Any) -> dict[str, Any]:
    return {
        "eval_data": str(EXAMPLES / "digits_test.npz"),
        "scored": 20,
        "objectives": ["accuracy", "latency"],
        "storage": f"lines:{tmp_path / 'study.jsonl'}",
        "strategy": "random",
        "trials": 1,
        "device": command,
        **more,
    }


def test_a_device_runs_the_bundle_of_each_trial(tmp_path: Path) -> None:
    """In a clean environment, away from the repository."""
    kept = tmp_path / "device.json"
    there = f"cd / && env -i PATH=/usr/bin:/bin PYTHONNOUSERSITE=1 PYTHON={sys.executable} sh {{bundle}}/run.sh"
    command = f"{there} >/dev/null && cp {{bundle}}/device.json {{result}} && cp {{result}} {kept}"
    told = Searching(DIGITS, tmp_path / "out", ["bits"], **given(tmp_path, command)).tried()
    (figures,) = [one.figures for one in told.records]
    device = json.loads(kept.read_text())
    before, after = (one["median_ms"] for one in device["models"])
    assert device["correct"]
    assert figures["latency_ms"] == pytest.approx(after)
    assert figures["latency_ratio"] == pytest.approx(after / before, rel=0.2)  # the ratio is of turns, not of medians


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo no such host >&2; false {bundle} {result}", "the device command ended with 1: no such host"),
        ("true {bundle} {result}", "the device told no times"),
        ("echo '{}' > {result}; true {bundle}", "the device told no times"),
        (
            "echo '{"
            '"machine": "m", "threads": 1, "models": [{"model": "after.onnx", "sha256": "x", "times_ms": [1.0],'
            ' "outputs": {"y": {"correct": false}}}]'
            "}' > {result}; true {bundle}",
            "the device told no times",
        ),
    ],
)
def test_a_device_that_fails_costs_its_trial(command: str, why: str, tmp_path: Path) -> None:
    told = Searching(DIGITS, tmp_path / "out", ["bits"], **given(tmp_path, command)).tried()
    assert [one.figures["told"].startswith(why) for one in told.records] == [True]


def test_what_a_device_is_asked_for_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not name \{result\}"):
        search(DIGITS, tmp_path / "out", ["bits"], **given(tmp_path, "measure {bundle}"))
    with pytest.raises(UsageError, match="nothing is timed"):
        search(DIGITS, tmp_path / "out", ["bits"], **given(tmp_path, "m {bundle} {result}", objectives=["size"]))
