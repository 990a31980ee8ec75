"""The costs of layers add up to those of the model, before and after, whatever a pass makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import parser

from intaglio import PruneChannels, Quantize, load, run
from intaglio.graph.cost import cost
from intaglio.graph.io.load import from_proto
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.profile import layer_times
from intaglio.passes import Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.factorize import Factorize
from intaglio.passes.shorten import Shorten
from intaglio.pipeline.by_layer import by_layer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUNS: dict[str, tuple[str, list[Pass]]] = {
    "prune": ("digits", [PruneChannels(target="macs", keep=0.5)]),
    "factorize": ("digits", [Factorize(target="macs", keep=0.7, measure=False)]),
    "int8": ("digits", [Quantize()]),
    "mixed": ("digits", [Quantize(scheme="mixed", bits=3.0)]),
    "planes": ("digits", [Binarize()]),
    "bits": ("binary_digits", [Binarize()]),
    "short": ("digits", [Quantize(), Shorten()]),
    "two": ("digits", [PruneChannels(target="macs", keep=0.5), Quantize()]),
}


def total(rows: list[dict[str, Any]], key: str, side: str) -> int:
    return sum(one[key][side] for one in rows if key in one)


@pytest.mark.parametrize("name", RUNS)
def test_layers_add_up_to_the_model(name: str) -> None:
    model, passes = RUNS[name]
    data = str(EXAMPLES / "digits_calib.npz") if model == "digits" else None
    report = run(EXAMPLES / f"{model}.onnx", passes, data=data, samples=64, measure=False)
    told = report.as_dict()
    for key in ("macs", "bops"):
        for side in ("before", "after"):
            assert total(told["by_layer"], key, side) == told[side].get(key, 0)
    for side, one in (("before", load(EXAMPLES / f"{model}.onnx")), ("after", report.model)):
        bytes_read, bytes_stored = total(told["by_layer"], "bytes", side), cost(one).weight_bytes
        assert 0.8 * bytes_stored < bytes_read <= bytes_stored + len(told["by_layer"]), "but for rounding"


TWO = """<ir_version: 10, opset_import: ["" : 21]>
two (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{ [a] h = MatMul(x, w) [b] y = MatMul(h, w) }"""


def test_a_layer_that_is_gone_has_nothing_after() -> None:
    model = from_proto(parser.parse_model(TWO))
    smaller = from_proto(
        parser.parse_model(TWO.replace("[a] h = MatMul(x, w) [b] y = MatMul(h, w)", "[b] y = MatMul(x, w)"))
    )
    rows = {one["name"]: one for one in by_layer(model, smaller)}
    assert rows["a"] == {
        "name": "a",
        "op": "MatMul",
        "bytes": {"before": 32, "after": None},
        "macs": {"before": 16, "after": None},
    }
    assert rows["b"]["macs"] == {"before": 16, "after": 16}
    assert rows["b"]["bytes"] == {"before": 32, "after": 64}


@pytest.mark.parametrize("name", ["prune", "factorize", "int8", "two"])
def test_each_layer_is_timed_inside_of_both_models(name: str) -> None:
    """Whatever the runtime joins to it, and calls it then."""
    model, passes = RUNS[name]
    report = run(EXAMPLES / f"{model}.onnx", passes, data=str(EXAMPLES / "digits_calib.npz"), samples=32)
    for row in report.as_dict()["by_layer"]:
        assert row["latency_ms"]["before"] > 0, row
        assert row["latency_ms"]["after"] > 0, row


def test_layers_joined_with_additions_are_told_apart() -> None:
    model = load(EXAMPLES / "residual.onnx")
    feed = runnable_inputs(model)
    layers = {one.name for one in cost(model).nodes if one.macs}
    assert layer_times(model, feed, layers).keys() == layers
    assert layer_times(model, feed, ()) == {}
