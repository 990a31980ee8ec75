"""Bodies are calibrated on what they are really handed, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from intaglio import Factorize, Quantize
from intaglio.graph.bodies import bodies
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context, Pass
from intaglio.passes.bodies import run_with_bodies
from intaglio.passes.reaching import reaching

RNG = np.random.default_rng(7)
W = (RNG.standard_normal((6, 6)) / 2).astype(np.float32)
X = RNG.standard_normal((4, 6)).astype(np.float32)
FRAMES = RNG.standard_normal((5, 1, 6)).astype(np.float32)


def port(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str] | None = None) -> ValueInfoProto:
    return make_tensor_value_info(name, kind, shape)


def model_of(node: NodeProto, times: int = 3) -> Model:
    weights = {"times": np.array(times), "true": np.array(True), "frames": FRAMES}
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    nodes = [make_node("Neg", ["x"], ["a"]), node, make_node("Relu", [next(filter(None, node.output))], ["y"])]
    graph = make_graph(nodes, "g", [port("x", shape=["N", 6])], [port("y")], held)
    return from_proto(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8))


def body_of(op: str, last: Sequence[NodeProto]) -> NodeProto:
    """A Loop or a Scan that multiplies its state by a matrix, adds what it captures, and ends in ``last``."""
    held = [numpy_helper.from_array(W, "w")]
    step = [make_node("MatMul", ["s", "w"], ["t"]), *last]
    if op == "Loop":
        step.append(make_node("Identity", ["on"], ["again"]))
        ends = [port("k", TensorProto.INT64, []), port("on", TensorProto.BOOL, []), port("s")]
        body = make_graph(step, "b", ends, [port("again", TensorProto.BOOL, []), port("s2"), port("t")], held)
        return make_node("Loop", ["times", "true", "a"], ["", "all"], body=body)
    body = make_graph(step, "b", [port("s"), port("f")], [port("s2"), port("t")], held)
    return make_node(
        "Scan", ["a", "frames"], ["last", "all"], body=body, num_scan_inputs=1,
        scan_input_directions=[1], scan_output_axes=[0], scan_output_directions=[1],
    )  # fmt: skip


def handed(model: Model, folder: Path) -> list[dict[str, np.ndarray]] | None:
    np.savez(folder / "x.npz", x=X)
    (body,) = bodies(model)
    found = reaching(model, body, open_data(str(folder / "x.npz"), model))
    return None if found is None else [dict(batch.inputs) for batch in found.batches(1)]


@pytest.mark.parametrize("times", [1, 2, 7, 40])
def test_a_loop_hands_its_body_the_state_of_each_turn(times: int, tmp_path: Path) -> None:
    model = model_of(body_of("Loop", [make_node("Tanh", ["t"], ["s2"])]), times)
    found = handed(model, tmp_path)
    assert found is not None
    states = [-X]
    for _ in range(times - 1):
        states.append(np.tanh(states[-1] @ W))
    assert len(found) == min(times, 8)
    assert {int(one["k"]) for one in found} >= {0, times - 1}
    for one in found:
        np.testing.assert_allclose(one["s"], states[int(one["k"])], rtol=1e-4, atol=1e-6)
        assert one["on"]


def test_a_scan_hands_its_body_states_and_frames_in_its_own_direction(tmp_path: Path) -> None:
    model = model_of(body_of("Scan", [make_node("Add", ["t", "f"], ["u"]), make_node("Tanh", ["u"], ["s2"])]))
    found = handed(model, tmp_path)
    assert found is not None
    assert len(found) == len(FRAMES)
    state = -X
    for one, frame in zip(found, FRAMES[::-1], strict=True):
        np.testing.assert_allclose(one["s"], state, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(one["f"], frame)
        state = np.tanh(state @ W + frame)


def test_no_data_reach_a_loop_that_does_not_turn(tmp_path: Path) -> None:
    model = model_of(body_of("Loop", [make_node("Tanh", ["t"], ["s2"])]), 0)
    assert handed(model, tmp_path) is None


def growing(times: int) -> Model:
    """A state that in every turn has twice as many rows, the new ones of what the old ones are multiplied to."""
    grown = [make_node("Tanh", ["t"], ["u"]), make_node("Concat", ["s", "u"], ["s2"], axis=0)]
    model = model_of(body_of("Loop", grown), times)
    del model.graph.node[1].output[1:], model.graph.node[1].attribute[0].g.output[2:]
    model.graph.node[1].output[0], model.graph.node[2].input[0] = "last", "last"
    return model


@pytest.mark.parametrize("times", [1, 2, 6])
def test_a_state_that_grows_is_followed_turn_by_turn(times: int, tmp_path: Path) -> None:
    found = handed(growing(times), tmp_path)
    assert found is not None
    assert [int(one["k"]) for one in found] == list(range(times))
    state = -X
    for one in found:
        np.testing.assert_allclose(one["s"], state, rtol=1e-4, atol=1e-6)
        state = np.concatenate([state, np.tanh(state @ W)])


def test_no_data_reach_a_loop_that_grows_and_does_not_turn(tmp_path: Path) -> None:
    assert handed(growing(0), tmp_path) is None


@pytest.mark.parametrize(
    "one",
    [
        Quantize(scheme="int8"),
        Quantize(scheme="w4"),
        Factorize(target="params", keep=0.8, measure=False, align=1),
    ],
    ids=lambda one: f"{one.name}-{getattr(one, 'scheme', '')}",
)
def test_a_loop_whose_state_grows_is_changed_by_its_data(one: Pass, tmp_path: Path) -> None:
    model = growing(4)
    np.savez(tmp_path / "x.npz", x=X)
    change = run_with_bodies(one, model, Context(data=open_data(str(tmp_path / "x.npz"), model)))
    assert change.changed
    assert not [note for note in change.notes if "no data reach it" in note]
    before, after = (run(open_session(m), {"x": X})["y"] for m in (model, change.model))
    assert before.shape == after.shape == (64, 6)
    assert np.abs(before - after).max() < 0.5 * np.abs(before).max()


def test_bodies_of_nodes_that_no_output_depends_on_are_none() -> None:
    model = model_of(body_of("Loop", [make_node("Tanh", ["t"], ["s2"])]))
    assert len(bodies(model)) == 1
    model.graph.output[0].name = "a"
    assert bodies(model) == []


def test_no_data_reach_a_loop_whose_number_of_turns_is_none_on_them(tmp_path: Path) -> None:
    model = growing(4)
    model.graph.node.insert(1, make_node("NonZero", ["zero"], ["places"]))
    model.graph.node.insert(2, make_node("Flatten", ["places"], ["turns"]))
    model.weights["zero"] = np.zeros(1, np.float32)
    model.graph.node[3].input[0] = "turns"
    assert handed(model, tmp_path) is None
