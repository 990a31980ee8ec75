"""Raising the operator set keeps what a model computes, or refuses."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.opset import raise_opset
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model


def old_model(body: str, opset: int, shape: str = "float[1,3,4,5] x", **weights: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 4, opset_import: ["" : {opset}]> g ({shape}) => (float y) {{ {body} }}')
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items())
    return model


def outputs(model: bytes, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    (y,) = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return np.asarray(y)


SCALES = np.array([1, 1, 2, 1.5], np.float32)
CASES = {
    "softmax over several axes": old_model("y = Softmax <axis = 1> (x)", 9),
    "clip with attributes": old_model("y = Clip <min = 0.0> (x)", 10),
    "axes become operands": old_model("s = Squeeze <axes = [0]> (x) y = Unsqueeze <axes = [1]> (s)", 11),
    "split sizes": old_model("a, b = Split <axis = 1, split = [1, 2]> (x) y = ReduceSum <axes = [1]> (b)", 11),
    "slice": old_model("y = Slice <axes = [2, 3], starts = [1, -2], ends = [9, 9]> (x)", 9),
    "pad": old_model("y = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)", 10),
    "upsample by neighbours": old_model('y = Upsample <mode = "nearest"> (x, s)', 9, s=SCALES),
    "upsample linearly": old_model('y = Upsample <mode = "linear"> (x, s)', 9, s=SCALES),
    "resize by neighbours": old_model("y = Resize (x, s)", 10, s=SCALES),
    "resize linearly": old_model('y = Resize <mode = "linear"> (x, s)', 10, s=SCALES),
    "dropout": old_model("d, m = Dropout (x) y = Relu (d)", 8),
    "a constant operand": old_model("s = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Upsample (x, s)", 9),
    "a large weight": old_model("y = MatMul (x, w)", 9, w=np.linspace(-1, 1, 5000, dtype=np.float32).reshape(5, 1000)),
}


@pytest.mark.parametrize("name", CASES)
def test_old_models_are_raised_to_13_and_compute_the_same(name: str) -> None:
    model = from_proto(CASES[name])
    assert model.opset == 13
    assert any(note.startswith("operator set raised from") for note in model.notes)
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 5), dtype=np.float32)
    assert np.array_equal(outputs(CASES[name].SerializeToString(), x), outputs(to_bytes(model), x))


KEPT = {
    "the converter ignores its meaning": (old_model("y = Hardmax <axis = 1> (x)", 11), "Hardmax"),
    "it shrinks": (old_model("y = Resize (x, s)", 10, s=1 / SCALES), "may shrink"),
    "operands would have the wrong type": (
        old_model("y = Clip <min = 0.0> (x)", 10, "float16[1,3] x"),
        "inconsistent type",
    ),
    "onnx does not know it": (old_model("y = ImageScaler (x)", 8), "no registered schema"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_raised_faithfully_is_kept_and_said(name: str) -> None:
    proto, reason = KEPT[name]
    model = from_proto(proto)
    assert model.opset == proto.opset_import[0].version
    assert len(model.notes) == 1
    assert reason in model.notes[0]
    with pytest.raises(BadModel, match=reason):
        raise_opset(model, 13)


def new_model() -> Model:
    proto = old_model(
        "r = ReduceMean <axes = [2, 3]> (x) n = MatMul (r, w) y = mine.Keep (n)", 13, w=np.eye(3, dtype=np.float32)
    )
    proto.opset_import.add(domain="mine", version=1)
    proto.graph.node[1].metadata_props.add(key="made by", value="hand")
    proto.metadata_props.add(key="author", value="me")
    return from_proto(proto)


def test_raising_makes_a_new_model_and_leaves_the_old_one() -> None:
    model = new_model()
    before = to_bytes(model)
    raised = raise_opset(model, 18)
    assert to_bytes(model) == before
    assert raised.opset == 18
    assert raised.weights["w"] is model.weights["w"]
    assert [o.domain for o in raised.proto.opset_import] == ["", "mine"]
    assert raise_opset(raised, 13) is raised


def test_metadata_survives_raising() -> None:
    raised = raise_opset(new_model(), 21)
    matmul = next(n for n in raised.graph.node if n.op_type == "MatMul")
    assert [(p.key, p.value) for p in matmul.metadata_props] == [("made by", "hand")]
    assert [(p.key, p.value) for p in raised.proto.metadata_props] == [("author", "me")]


def test_raising_twice_gives_fresh_names() -> None:
    model = raise_opset(raise_opset(from_proto(CASES["softmax over several axes"]), 18), 21)
    made = [o for n in model.graph.node for o in n.output] + list(model.weights)
    assert len(made) == len(set(made))
    assert model.opset == 21
