"""What a Loop hands on unchanged is read from outside of it, with the same results, and can then be compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.parser import parse_model

from intaglio.cli.main import main
from intaglio.graph.bodies import bodies
from intaglio.graph.io.canonicalize import SHARED
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_bytes, to_proto
from intaglio.graph.layers import Layers

BODY = "(int64 i, bool go, float[A, 8] h, float[8, 8] {w}, float[8] {b}) => (bool go, float[A, 8] h3, float[8, 8] {w}, float[8] {c})"
STEP = "{{ h1 = MatMul(h, {w}) h2 = Add(h1, {b}) h3 = Tanh(h2) {more} }}"


def loop(w: str, b: str, made: str, given: str, *, c: str = "", more: str = "") -> str:
    """One that multiplies by ``w``, adds ``b`` and hands on both, or ``c`` in the place of ``b``."""
    body = BODY.format(w=w, b=b, c=c or b) + STEP.format(w=w, b=b, more=more)
    return f"{made} = Loop<body = inner {body}>(turns, true, {given})"


CASES = {
    "weights": (loop("w_in", "b_in", "y, w_out, b_out", "x, w, b"), 2),
    "by the names that they have outside": (loop("w", "b", "y, w_out, b_out", "x, w, b"), 2),
    "from one loop to the next, by the same names": (
        loop("w_in", "b_in", "h_, w_out, b_out", "x, w, b")
        + " "
        + loop("w_in", "b_in", "y, w_2, b_2", "h_, w_out, b_out"),
        4,
    ),
    "read behind the loop": (loop("w_in", "b_in", "h_, w_out, b_out", "x, w, b") + " y = MatMul(h_, w_out)", 2),
    "a state that changes": (
        loop("w_in", "b_in", "y, w_out, b_out", "x, w, b", c="c_out", more="c_out = Add(b_in, b_in)"),
        1,
    ),
    "two that change places": (
        "y, last = Loop<body = inner (int64 i, bool go, float[A, 8] p, float[A, 8] q) => (bool go, float[A, 8] q, float[A, 8] p)"
        "{ unread = Neg(p) }>(turns, true, x, zeros)",
        0,
    ),
}


@pytest.mark.parametrize(("text", "taken"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("turns", [0, 1, 5])
def test_results_stay_and_states_go(text: str, taken: int, turns: int) -> None:
    proto = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 8] y) {{ {text} }}')
    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(8, 8)) / 3, "b": rng.normal(size=8), "zeros": np.zeros((3, 8))}
    held = {name: value.astype(np.float32) for name, value in values.items()}
    held |= {"turns": np.asarray(turns), "true": np.asarray(True)}
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(held[name], name) for name in held if name in read)
    before = sum(len(node.input) for node in proto.graph.node if node.op_type == "Loop")
    x = rng.normal(size=(3, 8)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    model = from_proto(proto)
    assert before - sum(len(node.input) for node in model.graph.node if node.op_type == "Loop") == taken
    assert (SHARED in model.notes) == (taken > 0)
    onnx.checker.check_model(to_proto(model))
    made = onnxruntime.InferenceSession(to_bytes(model)).run(None, {"x": x})
    np.testing.assert_array_equal(made[0], wanted[0])


def test_a_result_that_the_graph_gives_stays_a_state() -> None:
    text = loop("w_in", "b_in", "y, w_out, b_out", "x, w, b")
    proto = parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 8] y, float[8, 8] w_out) {{ {text} }}'
    )
    held = {
        "w": np.eye(8, dtype=np.float32),
        "b": np.ones(8, np.float32),
        "turns": np.asarray(2),
        "true": np.asarray(True),
    }
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in held.items())
    (node,) = from_proto(proto).graph.node
    assert [*node.output] == ["y", "w_out"]
    assert len(node.input) == 4


def test_weights_that_loops_hand_on_are_layers_of_their_bodies(tmp_path: Path) -> None:
    text = loop("w_in", "b_in", "y, w_out, b_out", "x, w, b").replace("8", "64")
    proto = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 64] x) => (float[N, 64] y) {{ {text} }}')
    rng = np.random.default_rng(0)
    held = {"w": rng.normal(size=(64, 64)) / 8, "b": rng.normal(size=64)}
    values = {**{k: v.astype(np.float32) for k, v in held.items()}, "turns": np.asarray(3), "true": np.asarray(True)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    model = from_proto(proto)
    (body,) = bodies(model)
    assert [one.weight for one in Layers(body.model)] == ["w"]
    given, made = tmp_path / "m.onnx", tmp_path / "o.onnx"
    onnx.save(proto, given)
    assert main(["quantize", str(given), "-o", str(made), "--scheme", "w8", "--no-measure"]) == 0
    assert made.stat().st_size < 0.5 * given.stat().st_size
