"""A function of the user edits the graph as a step of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon
import pytest

from intaglio import Edit, Quantize, load, run
from intaglio.graph.errors import BadModel, NothingChanged, UsageError
from intaglio.graph.io.save import to_bytes

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.onnx"


def halved(graph: onnx_graphsurgeon.Graph) -> None:
    """The last layer's weights, halved."""
    print("halving")
    head = graph.nodes[-1]
    head.inputs[1].values = head.inputs[1].values / 2


def copied(graph: onnx_graphsurgeon.Graph) -> onnx_graphsurgeon.Graph:
    other = graph.copy()
    halved(other)
    return other


def idle(graph: onnx_graphsurgeon.Graph) -> None:
    pass


def wrong(graph: onnx_graphsurgeon.Graph) -> str:
    return "done"


def failing(graph: onnx_graphsurgeon.Graph) -> None:
    raise ValueError("no such node")


def leaving(graph: onnx_graphsurgeon.Graph) -> None:
    raise SystemExit(3)


def named(function: Any) -> Edit:
    return Edit(function=f"{__name__}:{function.__name__}")


@pytest.mark.parametrize("function", [halved, copied])
def test_the_graph_is_edited_in_place_or_returned(function: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(DIGITS)
    before = to_bytes(model)
    change = named(function).run(model)
    (name,) = [n for n, weight in change.model.weights.items() if weight is not model.weights[n]]
    np.testing.assert_array_equal(change.model.weights[name], model.weights[name] / 2)
    assert to_bytes(model) == before
    assert capsys.readouterr() == ("", "halving\n")


def test_a_function_that_changes_nothing_changes_nothing(tmp_path: Path) -> None:
    model = load(DIGITS)
    change = named(idle).run(model)
    assert change.model is model
    assert not change.changed
    with pytest.raises(NothingChanged):
        run(model, named(idle), out=tmp_path / "same.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_a_function_does_wrong_is_told() -> None:
    model = load(DIGITS)
    for function, said in ((failing, "ValueError: no such node"), (leaving, "SystemExit: 3")):
        with pytest.raises(BadModel, match=f"{function.__name__} failed") as caught:
            named(function).run(model)
        assert caught.value.why == said
    with pytest.raises(BadModel, match="returned str"):
        named(wrong).run(model)
    with pytest.raises(UsageError, match=r"cannot import 'no\.such:thing'"):
        Edit(function="no.such:thing").run(model)


def test_it_stands_between_passes() -> None:
    report = run(DIGITS, [named(halved), Quantize(scheme="w8")], measure=False)
    assert [one["pass"] for one in report.as_dict()["steps"]] == ["edit", "quantize"]
    assert report.recipe["passes"][0]["function"] == f"{__name__}:halved"
