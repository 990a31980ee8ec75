"""A model goes through onnx-graphsurgeon and back: only what was edited changes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.loader import load_model_tests

from intaglio.graph.errors import BadModel, IntaglioError
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from tests import zoo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUNDLED = sorted(EXAMPLES.glob("*.onnx"))
HAND_MADE = [name for name in zoo.names() if zoo.entry(name).exporter == "onnx"]


def round_trip(model: Model) -> Model:
    return model.from_graphsurgeon(model.to_graphsurgeon())


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_models_come_back_byte_by_byte(path: Path) -> None:
    model = load(path)
    back = round_trip(model)
    assert to_bytes(back) == to_bytes(model)
    assert all(back.weights[name] is weight for name, weight in model.weights.items())
    assert back.file is model.file


def test_networks_of_every_kind_come_back_byte_by_byte(zoo_folder: Path) -> None:
    assert len(HAND_MADE) > 50
    for name in HAND_MADE:
        model = load(zoo.build(name, "onnx", zoo_folder))
        assert to_bytes(round_trip(model)) == to_bytes(model), name


@pytest.fixture(scope="module")
def cases() -> dict[str, onnx.ModelProto]:
    """onnx's own, one network an operator."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), np.errstate(all="ignore"):
        patch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
        warnings.simplefilter("ignore")
        return {case.name: case.model for case in load_model_tests(kind="node") if case.model is not None}


def test_every_operator_comes_back_byte_by_byte(cases: dict[str, onnx.ModelProto]) -> None:
    same = 0
    for name in [n for n in cases if "_opt" not in n and "loop16" not in n][::4]:
        try:
            model = from_proto(cases[name])
        except IntaglioError:
            continue
        assert to_bytes(round_trip(model)) == to_bytes(model), name
        same += 1
    assert same > 400


def test_what_such_a_graph_cannot_hold_is_told(cases: dict[str, onnx.ModelProto]) -> None:
    with pytest.raises(BadModel, match="cannot write this graph") as caught:
        round_trip(from_proto(cases["test_identity_opt"]))
    assert "optional values" in caught.value.fix


def made() -> Model:
    """Holds all sorts of things that such a graph does not."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "r", doc_string="a rectifier"),
        helper.make_node("LeakyRelu", ["r"], ["l"], "l", doc_string="a leaky one", alpha=0.25),
        helper.make_node("Mul", ["l", "w"], ["y"], "y"),
    ]
    for node in nodes:
        node.metadata_props.add(key="origin", value=node.name)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, ["N", 3])],
        [value("y", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])],
    )
    graph.metadata_props.add(key="of", value="graph")
    graph.input[0].doc_string = "the input"
    graph.input[0].type.denotation = "IMAGE"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    proto.metadata_props.add(key="of", value="model")
    proto.doc_string, proto.domain, proto.model_version = "a network", "org.example", 7
    return from_proto(proto)


def test_an_edit_leaves_the_rest_as_it_was() -> None:
    model = made()
    graph = model.to_graphsurgeon()
    next(n for n in graph.nodes if n.op == "LeakyRelu").attrs["alpha"] = 0.5
    expected = model.copy()
    expected.graph.node[1].attribute[0].f = 0.5
    assert to_bytes(model.from_graphsurgeon(graph)) == to_bytes(expected)


def test_another_weight_is_the_only_difference() -> None:
    model = load(EXAMPLES / "digits.onnx")
    graph = model.to_graphsurgeon()
    weight = next(n for n in graph.nodes if n.op == "Conv").inputs[1]
    weight.values = weight.values * 2
    back = model.from_graphsurgeon(graph)
    changed = {name for name, value in model.weights.items() if back.weights[name] is not value}
    assert changed == {weight.name}
    np.testing.assert_array_equal(back.weights[weight.name], 2 * model.weights[weight.name])
    assert list(back.weights) == list(model.weights)
    assert back.proto == model.proto


def test_nodes_can_go_and_come() -> None:
    model = made()
    graph = model.to_graphsurgeon()
    relu, leaky, _ = graph.nodes
    leaky.inputs[0] = graph.inputs[0]
    relu.outputs.clear()
    half = onnx_graphsurgeon.Constant("half", np.array([0.5], np.float32))
    graph.outputs[0].name, graph.outputs[0].inputs[0].outputs[0] = "y", onnx_graphsurgeon.Variable("t", np.float32)
    graph.nodes.append(
        onnx_graphsurgeon.Node("Mul", "scale", inputs=[graph.nodes[-1].outputs[0], half], outputs=[graph.outputs[0]])
    )
    graph.cleanup()
    back = model.from_graphsurgeon(graph)
    x = np.array([[-4, 2, 1]], np.float32)
    np.testing.assert_array_equal(run(open_session(back), {"x": x})["y"], [[-0.5, 2, 1.5]])
    assert back.graph.node[0].doc_string == "a leaky one"
    assert {p.key: p.value for p in back.proto.metadata_props} == {"of": "model"}
    assert [n.op_type for n in back.graph.node] == ["LeakyRelu", "Mul", "Mul"]


def test_a_graph_that_is_no_model_is_told() -> None:
    model = made()
    graph = model.to_graphsurgeon()
    graph.nodes[1].inputs[0] = onnx_graphsurgeon.Variable("nowhere")
    with pytest.raises(BadModel, match="nowhere"):
        model.from_graphsurgeon(graph)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Its warnings would stand among a command's results."""
    graph: Any = onnx.parser.parse_graph("net (bfloat16[3] x) => (bfloat16[3] y) { y = Relu(x) }")
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    assert to_bytes(round_trip(model)) == to_bytes(model)
    assert capfd.readouterr() == ("", "")
