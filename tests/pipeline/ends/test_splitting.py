"""A model in two halves gives what it gave, and deep features may be some steps old."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from intaglio import load
from intaglio.graph.errors import IntaglioError, NothingChanged, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.rewrite.split import split as halves
from intaglio.pipeline.ends.splitting import Steps, split


def unet() -> Model:
    """Two levels with a skip, and a number that says which step it is."""
    rng, nodes, weights = np.random.default_rng(0), [], {}

    def conv(x: str, name: str, made: int, given: int, stride: int = 1) -> str:
        weights[f"{name}/w"] = (rng.standard_normal((made, given, 3, 3)) / np.sqrt(9 * given)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [x, f"{name}/w"], [name], name, pads=[1] * 4, strides=[stride] * 2))
        return name

    conv("x", "shallow", 4, 2)
    nodes.append(helper.make_node("Add", ["shallow", "t"], ["timed"], "timed"))
    conv(conv("timed", "down", 8, 4, 2), "deep", 8, 8)
    weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    nodes.append(helper.make_node("Resize", ["deep", "", "scales"], ["up"], "up", mode="nearest"))
    nodes.append(helper.make_node("Concat", ["up", "timed"], ["both"], "both", axis=1))
    conv("both", "y", 2, 12)
    shapes: dict[str, list[Any]] = {"x": ["N", 2, 8, 8], "t": [1], "y": ["N", 2, 8, 8]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "unet", ends[:2], ends[2:], stored)
    return from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def test_both_halves_give_what_the_model_gave() -> None:
    model, rng = unet(), np.random.default_rng(1)
    two = halves(model, ["deep"])
    x = {"x": rng.standard_normal((3, 2, 8, 8)).astype(np.float32), "t": np.ones(1, np.float32)}
    wanted, full = run(open_session(model), x), run(open_session(two.full), x)
    light = run(open_session(two.light), {**x, "deep": full["deep"]})
    np.testing.assert_array_equal(full["y"], wanted["y"])
    np.testing.assert_array_equal(light["y"], wanted["y"])
    assert [v.name for v in two.light.graph.input] == ["x", "t", "deep"]
    assert two.light.graph.input[2].type.tensor_type.shape.dim[0].dim_param == "N"
    assert {n.name for n in model.graph.node} - {n.name for n in two.light.graph.node} == {"down", "deep"}
    assert "deep/w" not in two.light.weights


def test_files_are_written_and_age_is_told(tmp_path: Path) -> None:
    told = split(unet(), ["deep"], tmp_path / "two", Steps(12, 3, 0.05))
    assert sorted(f.name for f in (tmp_path / "two").iterdir()) == ["full.onnx", "light.onnx"]
    noise = [one["outputs"]["y"]["max_abs"] for one in told["ages"]]
    assert noise[0] < 1e-6 < noise[1] < noise[2]
    assert told["mean_macs"] == (told["before"]["macs"] + 2 * told["after"]["macs"]) / 3
    assert told["after"]["macs"] < told["before"]["macs"]
    assert load(tmp_path / "two" / "light.onnx").weights.keys() == halves(unet(), ["deep"]).light.weights.keys()


def test_steps_of_real_data_come_in_their_order(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((4, 2, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "same.npz", x=np.repeat(x[:1], 4, axis=0), t=np.zeros((4, 1), np.float32))
    model = unet()
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    same = split(model, ["deep"], tmp_path / "a", Steps(4, 4, 0), data=str(tmp_path / "same.npz"))
    assert all(one["outputs"]["y"]["max_abs"] < 1e-6 for one in same["ages"])


@pytest.mark.parametrize(
    ("at", "error", "word"),
    [
        (["nowhere"], UsageError, "there is no tensor"),
        (["deap"], UsageError, "deep"),
        (["x"], UsageError, "an input already"),
        (["y"], UsageError, "is an output"),
        (["deep/w"], UsageError, "is a constant"),
        (["timed"], NothingChanged, ""),
        (["deep", "down"], UsageError, "would not be read"),
    ],
)
def test_what_does_not_split_is_told(at: list[str], error: type[IntaglioError], word: str) -> None:
    if at == ["timed"]:
        at = ["shallow/relu"]
        model = unet()
        model.graph.node.append(helper.make_node("Relu", ["shallow"], ["shallow/relu"], "relu"))
        model.graph.node.append(helper.make_node("Relu", ["shallow/relu"], ["z"], "again"))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4, 8, 8]))
    else:
        model = unet()
    with pytest.raises(error) as found:
        halves(model, at)
    said: Any = found.value
    assert word in f"{said.what} {said.why} {said.fix}"


def test_a_fault_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        split(unet(), ["nowhere"], tmp_path / "two", Steps(4, 2, 0.1))
    assert not (tmp_path / "two").exists()
