"""A streamed model makes what the model makes of windows, hop after hop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from intaglio import load
from intaglio.graph.cost import cost
from intaglio.graph.errors import NothingChanged, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.stream import StreamOptions, stream

from .nets import Net, drawn, hopped

WINDOW = 60


def signal(model: Model, axis: int, length: int, seed: int = 0) -> np.ndarray:
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    shape[axis] = length
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_without_padding_hops_equal_windows(seed: int) -> None:
    model, axis, rate = drawn(seed, WINDOW)
    hop = rate * (1 + seed % 3)
    made = stream(model, StreamOptions(hop=hop, axis=str(axis), hops=2))
    assert made.told["exact"]
    assert set(made.told["delay"].values()) == {0}
    warm = -(-WINDOW // hop)
    x = signal(model, axis, (warm + 100) * hop)
    outs, session = hopped(made.told, made.model, {"x": x}, warm + 100), open_session(model)
    (name,) = made.told["delay"]
    for k in range(warm, warm + 100):
        window = np.take(x, range((k + 1) * hop - WINDOW, (k + 1) * hop), axis=axis)
        wanted, got = run(session, {"x": window})[name], outs[k][name]
        if got.shape != wanted.shape:
            new = min(got.shape[axis], wanted.shape[axis])
            wanted, got = (np.take(v, range(v.shape[axis] - new, v.shape[axis]), axis=axis) for v in (wanted, got))
        np.testing.assert_allclose(got, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("seed", range(12))
def test_with_padding_hops_equal_the_whole_signal_once_past_its_beginning(seed: int) -> None:
    model, axis, rate = drawn(seed, "T", padded=True)
    made = stream(model, StreamOptions(hop=2 * rate, axis="T", hops=3))
    (name,) = made.told["delay"]
    hops, hop = 100 + WINDOW // (2 * rate), 2 * rate
    x = signal(model, axis, hops * hop)
    outs, whole = hopped(made.told, made.model, {"x": x}, hops), run(open_session(model), {"x": x})[name]
    late = np.concatenate([out[name] for out in outs], axis=axis)
    shift = made.told["delay"][name] // rate
    length = whole.shape[axis]
    first = WINDOW // rate + 2
    wanted = np.take(whole, range(first, length - shift), axis=axis)
    got = np.take(late, range(late.shape[axis] - wanted.shape[axis], late.shape[axis]), axis=axis)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_macs_of_a_hop_are_its_share_of_the_window() -> None:
    net = Net(np.random.default_rng(0))
    x = "x"
    for _ in range(3):
        x = net.add("Relu", [net.add("Conv", [x, net.draw(8, 8, 3)], pads=[1, 1])])
    model = net.model({"x": [1, 8, 400]}, {x: 3})
    made = stream(model, StreamOptions(hop=20, hops=2))
    assert made.told["after"]["macs"] * 20 == made.told["before"]["macs"] == cost(model).macs
    assert made.told["head_macs"] == 0


def test_a_hop_that_does_not_fit_the_strides_names_the_nearest_that_do() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Conv", [net.add("Conv", ["x", net.draw(2, 1, 4)], strides=[2]), net.draw(2, 2, 3)], strides=[3])
    with pytest.raises(UsageError) as error:
        stream(net.model({"x": [1, 1, 64]}, {x: 3}), StreamOptions(hop=8))
    assert "--hop 12" in error.value.fix
    assert "--hop 6" in error.value.fix


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_carry_their_states(op: str) -> None:
    net, gates = Net(np.random.default_rng(0)), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    x = net.add(
        "Transpose",
        [
            net.add("Conv", ["x", net.draw(5, 2, 3)], pads=[2, 0]),
        ],
        perm=[2, 0, 1],
    )
    x = net.add(op, [x, net.draw(1, gates * 4, 5), net.draw(1, gates * 4, 4)], hidden_size=4)
    x = net.add("Squeeze", [x, net.ints(1)])
    model = net.model({"x": [1, 2, "T"]}, {x: 3})
    made = stream(model, StreamOptions(hop=3, axis="T", hops=20))
    signals = {"x": signal(model, 2, 300)}
    outs, whole = hopped(made.told, made.model, signals, 100), run(open_session(model), signals)[x]
    np.testing.assert_allclose(np.concatenate([out[x] for out in outs]), whole, atol=1e-6)
    assert len(made.told["carried"]) == 1
    fixed = net.model({"x": [1, 2, 24]}, {x: 3})
    again = stream(fixed, StreamOptions(hop=3, hops=5))
    assert again.told["carried"]
    assert 0 < again.told["outputs"][x]["max_abs"] < 1


def test_last_states_that_are_read_as_features_are_of_the_newest_frame() -> None:
    net = Net(np.random.default_rng(0))
    frames = net.add("Transpose", ["x"], perm=[2, 0, 1])
    net.nodes.append(
        helper.make_node("GRU", [frames, net.draw(1, 12, 3), net.draw(1, 12, 4)], ["", "last"], "gru", hidden_size=4)
    )
    made = stream(net.model({"x": [1, 3, "T"]}, {"last": 3}), StreamOptions(hop=2, axis="T", window=16, hops=5))
    signals = {"x": np.random.default_rng(1).standard_normal((1, 3, 40)).astype(np.float32)}
    outs = hopped(made.told, made.model, signals, 20)
    whole = run(open_session(net.model({"x": [1, 3, "T"]}, {"last": 3})), signals)["last"]
    np.testing.assert_allclose(outs[-1]["last"], whole, atol=1e-6)


def test_exact_keeps_windows_for_what_is_padded_and_streams_what_stands_before() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Relu", [net.add("Conv", ["x", net.draw(8, 8, 9)])])
    x = net.add("Conv", [x, net.draw(2, 8, 3)], pads=[1, 1])
    model = net.model({"x": [1, 8, 64]}, {x: 3})
    made = stream(model, StreamOptions(hop=4, exact=True, hops=20))
    assert made.told["exact"]
    assert made.told["windowed"]
    assert made.told["outputs"][x]["max_abs"] < 1e-5
    assert made.told["after"]["macs"] < made.told["before"]["macs"] / 5
    loose = stream(model, StreamOptions(hop=4, hops=20)).told
    assert not loose["exact"]
    assert loose["outputs"][x]["max_abs"] > 1e-3


def test_layers_between_that_take_frames_one_by_one_are_followed() -> None:
    """Transposes, reshapes, products, normalizations, softmax, splits and gathers along other axes."""
    net = Net(np.random.default_rng(3))
    x = net.add("Conv", ["x", net.draw(8, 2, 3)])
    x = net.add("Transpose", [x], perm=[0, 2, 1])
    x = net.add("Add", [net.add("MatMul", [x, net.draw(8, 12)]), net.draw(12)])
    x = net.add("LayerNormalization", [x, net.draw(12), net.draw(12)], axis=-1)
    x = net.add("Reshape", [x, net.ints(1, 28, 3, 4)])
    x = net.add("Softmax", [x], axis=-1)
    x = net.add("ReduceMean", [x], axes=[2], keepdims=0)
    x = net.add("Gather", [x, net.ints(2, 0)], axis=2)
    x = net.add("Transpose", [net.add("Unsqueeze", [x, net.ints(1)])], perm=[0, 3, 1, 2])
    x = net.add("Conv", [net.add("Squeeze", [x, net.ints(2)]), net.draw(3, 2, 2)])
    made = stream(net.model({"x": [1, 2, 30]}, {x: 3}), StreamOptions(hop=5, hops=20)).told
    assert made["windowed"] == []
    assert made["outputs"][x]["max_abs"] < 1e-5


def test_what_gates_by_the_window_is_computed_on_the_window() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Conv", ["x", net.draw(16, 4, 8)])
    gate = net.add("Sigmoid", [net.add("Conv", [net.add("GlobalAveragePool", [x]), net.draw(16, 16, 1)])])
    x = net.add("Mul", [x, gate])
    made = stream(net.model({"x": [1, 4, 64]}, {x: 3}), StreamOptions(hop=4, hops=20)).told
    assert made["windowed"]
    assert made["outputs"][x]["max_abs"] < 1e-5


def test_nothing_is_written_where_all_needs_the_window() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Gemm", [net.add("Flatten", ["x"]), net.draw(64, 5)])
    with pytest.raises(NothingChanged):
        stream(net.model({"x": [1, 2, 32]}, {x: 2}), StreamOptions(hop=4))


@pytest.mark.parametrize(
    ("axis", "window", "word"),
    [("nowhere", None, "--axis INPUT:NUMBER"), ("y:1", None, "inputs are"), ("T", None, "--window"), ("T", 2, "hop")],
)
def test_what_cannot_be_meant_is_told(axis: str, window: int | None, word: str) -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Flatten", [net.add("GlobalMaxPool", [net.add("Conv", ["x", net.draw(2, 1, 3)])])])
    with pytest.raises(UsageError) as error:
        stream(net.model({"x": [1, 1, "T"]}, {x: 2}), StreamOptions(hop=4, axis=axis, window=window))
    assert word in f"{error.value.what} {error.value.fix}"


def test_the_file_tells_a_program_how_to_run_it() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Conv", ["x", net.draw(2, 1, 3)])
    made = stream(net.model({"x": [1, 1, 16]}, {x: 3}), StreamOptions(hop=4, hops=2)).model
    (record,) = [json.loads(p.value) for p in made.proto.metadata_props if p.key == "intaglio.stream"]
    assert record == {
        "axis": {"x": 2}, "hop": 4, "window": 16, "delay": {x: 0}, "states": {"x/past": "x/past/next"},
    }  # fmt: skip


def test_a_real_keyword_spotter_takes_a_twentieth_of_the_work(shared_data: Path) -> None:
    model = load(shared_data / "kws_dscnn_from_drq_tflite.onnx")
    made = stream(model, StreamOptions(hop=2, axis="input:2", hops=10)).told
    assert made["delay"] == {"output": 14}
    assert made["after"]["macs"] - made["head_macs"] <= made["before"]["macs"] * 2 / 49
    assert made["outputs"]["output"]["sqnr_db"] > 15


def test_the_past_of_integers_is_kept_as_integers() -> None:
    net = Net(np.random.default_rng(0))
    scale, zero = net.put(np.array(0.05, np.float32)), net.put(np.array(128, np.uint8))
    q = net.add("QuantizeLinear", ["x", scale, zero])
    x = net.add("Conv", [net.add("DequantizeLinear", [q, scale, zero]), net.draw(4, 2, 5)])
    made = stream(net.model({"x": [1, 2, 32]}, {x: 3}), StreamOptions(hop=4, hops=20))
    (state,) = made.told["states"]
    assert (state["name"], state["shape"], state["bytes"]) == (f"{q}/past", [1, 2, 4], 8)
    assert made.told["outputs"][x]["max_abs"] < 1e-5


def test_a_body_that_reads_the_stream_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    node = helper.make_node("If", ["which"], ["y"], "choice", then_branch=body, else_branch=body)
    made = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [made("x", TensorProto.FLOAT, [1, 1, 8]), made("which", TensorProto.BOOL, [])],
        [made("y", TensorProto.FLOAT, [1, 1, 8])],
    )  # fmt: skip
    model = from_proto(helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    with pytest.raises(Exception, match="body"):
        stream(model, StreamOptions(hop=2, axis="x:2"))
