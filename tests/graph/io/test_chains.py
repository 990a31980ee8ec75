"""Weights behind nodes that move and convert them: what loading carries out, and what it leaves."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper, parser

from intaglio.graph.bodies import bodies
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import file_bytes, to_bytes
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x) => (float[N,M] y)'
SMALL = {
    "axes": np.array([0], np.int64),
    "ones": np.array([1], np.int64),
    "zeros": np.array([0], np.int64),
    "eight": np.array([8], np.int64),
    "square": np.array([8, 8], np.int64),
    "parts": np.array([8, 8], np.int64),
    "order": np.array([3, 1, 0, 2, 7, 6, 5, 4], np.int64),
}
CHAINS = {
    "Transpose": ("t = Transpose <perm = [1, 0]> (w)", (8, 8), np.float32),
    "Slice": ("t = Slice (w, zeros, eight, axes)", (9, 8), np.float32),
    "Concat": ("t = Concat <axis = 1> (w, v)", (8, 4), np.float32),
    "Reshape": ("t = Reshape (w, square)", (64,), np.float32),
    "Flatten": ("t = Flatten <axis = 1> (w)", (8, 2, 4), np.float32),
    "Squeeze": ("t = Squeeze (w, axes)", (1, 8, 8), np.float32),
    "Unsqueeze": ("u = Unsqueeze (w, axes) t = Squeeze (u, axes)", (8, 8), np.float32),
    "Split": ("a, t = Split <axis = 0> (w, parts)", (16, 8), np.float32),
    "Gather": ("t = Gather (w, order)", (8, 8), np.float32),
    "Cast": ("t = Cast <to = 1> (w)", (8, 8), np.float64),
    "Cast to half": ("h = Cast <to = 10> (w) u = Transpose (h) t = Cast <to = 1> (u)", (8, 8), np.float32),
    "Identity": ("i = Identity (w) t = Transpose (i)", (8, 8), np.float32),
    "several": ("a = Slice (w, ones, eight, axes) b = Slice (w, zeros, ones, axes) t = Concat <axis = 0> (a, b)", (8, 8), np.float32),
}  # fmt: skip


def behind(chain: str, *, end: str = "y = MatMul (x, t)", **weights: np.ndarray) -> ModelProto:
    """A network whose weight ``t`` is what ``chain`` makes of others."""
    proto = parser.parse_model(f"{HEAD} {{ {chain} {end} }}")
    for place, node in enumerate(proto.graph.node):
        node.name = f"node {place}"
    read = {name for node in proto.graph.node for name in node.input}
    everything = {**SMALL, **weights}
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in everything.items() if n in read)
    return proto


def drawn(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def outputs(model: bytes) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": drawn(3, 8)})
    return np.asarray(y)


def loaded(proto: ModelProto) -> Model:
    """The model, of which every bit of the output and the size were compared."""
    model = from_proto(proto)
    assert outputs(to_bytes(model)).tobytes() == outputs(proto.SerializeToString()).tobytes()
    assert file_bytes(model) <= proto.ByteSize()
    return model


@pytest.mark.parametrize("name", CHAINS)
def test_a_weight_behind_nodes_that_move_it_is_a_layers_own(name: str) -> None:
    chain, shape, dtype = CHAINS[name]
    model = loaded(behind(chain, w=drawn(*shape, dtype=dtype), v=drawn(8, 4)))
    assert [n.op_type for n in model.graph.node] == ["MatMul"]
    assert [layer.weight for layer in Layers(model)] == ["t"]
    assert set(model.weights) == {"t"}


def test_a_bias_behind_nodes_is_its_layers_own() -> None:
    chain, end = "b = Reshape (c, eight)", "y = Gemm (x, w, b)"
    model = loaded(behind(chain, end=end, w=drawn(8, 8), c=drawn(1, 8)))
    assert [layer.bias for layer in Layers(model)] == ["b"]


def test_a_table_that_is_read_in_two_ways_stays_one() -> None:
    end = "h = MatMul (x, t) y = MatMul (h, w)"
    model = loaded(behind("t = Transpose (w)", end=end, w=drawn(64, 8)))
    assert [n.op_type for n in model.graph.node] == ["Transpose", "MatMul", "MatMul"]
    assert set(model.weights) == {"w"}


def test_a_chain_that_is_read_twice_is_carried_out_once() -> None:
    chain, end = "t = Transpose (w) s = Transpose <perm = [1, 0]> (w)", "h = MatMul (x, t) y = MatMul (h, t)"
    model = loaded(behind(chain, end=end, w=drawn(8, 8)))
    assert [list(n.input) for n in model.graph.node] == [["x", "t"], ["h", "t"]]
    twice = "t = Transpose (w) s = Transpose (w)"
    model = loaded(behind(twice, end="h = MatMul (x, t) y = MatMul (h, s)", w=drawn(8, 8)))
    assert [list(n.input) for n in model.graph.node] == [["x", "t"], ["h", "t"]]
    assert set(model.weights) == {"t"}


def test_what_would_make_the_file_grow_stays() -> None:
    thrice = loaded(behind("t = Concat <axis = 1> (w, w, w)", w=drawn(8, 64)))
    assert [n.op_type for n in thrice.graph.node] == ["Concat", "MatMul"]
    halves = loaded(behind("t = Cast <to = 1> (w)", w=drawn(8, 512, dtype=np.float16)))
    assert [n.op_type for n in halves.graph.node] == ["Cast", "MatMul"]


def test_nobody_makes_what_a_few_numbers_ask_for() -> None:
    """A file of a kilobyte that asks for terabytes is loaded all the same."""
    doubled = " ".join(f"w{k + 1} = Concat <axis = 0> (w{k}, w{k})" for k in range(40))
    end = "s = Slice (w40, zeros, eight, axes) y = MatMul (x, s)"
    assert "Concat" in [n.op_type for n in from_proto(behind(doubled, end=end, w0=drawn(8, 8))).graph.node]
    tall = "t = Gather (w, many) s = Slice (t, zeros, eight, axes)"
    many = np.zeros(3000, np.int64)
    model = from_proto(behind(tall, end="y = MatMul (x, s)", w=drawn(8, 8), many=many))
    assert "Gather" in [n.op_type for n in model.graph.node]


def test_bodies_have_their_chains_carried_out_when_they_are_opened() -> None:
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x, bool c) => (float[N,8] y) {
            y = If (c) <
                then_branch = yes () => (float[N,8] a) { t = Transpose (w) a = MatMul (x, t) },
                else_branch = no () => (float[N,8] b) { b = Relu (x) }
            >
        }"""
    )
    then = proto.graph.node[0].attribute[0].g
    then.initializer.append(numpy_helper.from_array(drawn(8, 8), "w"))
    model = from_proto(proto)
    assert [one.reason for one in Layers(model).unused] == [
        "it is inside If 'y', whose branch --input or --shape may decide"
    ]
    (body,) = bodies(model)
    assert [layer.weight for layer in Layers(body.model)] == ["t"]
