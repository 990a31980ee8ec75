"""Operators that ONNX Runtime joined, parted on load: the same numbers, and weights that passes see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from intaglio.graph.coupling import analyse
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_proto
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from tests.zoo.graph import Graph

Build = Callable[[Graph], list[str]]
BATCH, LENGTH, WIDTH = 2, 5, 12
RUNTIME = "com.microsoft"


def made(build: Build, opset: int = 17) -> onnx.ModelProto:
    """A model whose outputs have no shapes: onnx infers none behind such an operator."""
    g = Graph(build.__name__, opset)
    outputs = build(g)
    values = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(g.nodes, g.name, g.inputs, values, g.constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(RUNTIME, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def ran(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(v) for v in session.run(None, feeds)]


def drawn(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Floats, and integers that may be words of a table, lengths or masks."""
    rng, feeds = np.random.default_rng(0), {}
    for value in proto.graph.input:
        dims = [d.dim_value or BATCH for d in value.type.tensor_type.shape.dim]
        whole = value.type.tensor_type.elem_type == TensorProto.INT32
        made: np.ndarray = rng.integers(1, LENGTH + 1, dims) if whole else rng.standard_normal(dims)
        if value.name == "mask":
            made = np.sort(made % 2, axis=-1)[..., ::-1] if len(dims) > 1 else made
        feeds[value.name] = made.astype(np.int32 if whole else np.float32)
    return feeds


def assert_equal(proto: onnx.ModelProto, model: Model, tolerance: float) -> None:
    feeds = drawn(proto)
    for before, after in zip(ran(proto, feeds), ran(to_proto(model), feeds), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.node]


def given(g: Graph, name: str, *dims: int | str, kind: int = TensorProto.FLOAT) -> str:
    g.inputs.append(helper.make_tensor_value_info(name, kind, dims))
    return name


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", []),
        ("Tanh", []),
        ("Sigmoid", []),
        ("LeakyRelu", [0.2]),
        ("HardSigmoid", [0.3, 0.4]),
        ("Clip", [-0.5, 0.7]),
    ],
)
@pytest.mark.parametrize("added", [False, True], ids=["alone", "added"])
def test_convolutions_keep_every_bit(activation: str, parameters: list[float], added: bool) -> None:
    def build(g: Graph) -> list[str]:
        x = given(g, "x", "batch", 4, 7, 7)
        operands = [x, g.weight(6, 2, 3, 3), g.vector(6), *([given(g, "z", "batch", 6, 4, 4)] if added else [])]
        settings = {"activation_params": parameters} if parameters else {}
        return [
            g.op(
                "FusedConv",
                *operands,
                domain=RUNTIME,
                activation=activation,
                group=2,
                pads=[1] * 4,
                strides=[2, 2],
                **settings,
            )
        ]

    proto = made(build)
    model = from_proto(proto)
    assert operators(model) == ["Conv", *(["Add"] if added else []), activation]
    assert_equal(proto, model, 0.0)
    assert len(Layers(model)) == 1


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "LeakyRelu"])
def test_products_keep_every_bit(activation: str) -> None:
    def build(g: Graph) -> list[str]:
        x = given(g, "x", BATCH, 6)
        settings = {"activation_alpha": 0.2} if activation == "LeakyRelu" else {}
        y = g.op(
            "FusedGemm", x, g.weight(8, 6), g.vector(8), domain=RUNTIME, activation=activation, transB=1, **settings
        )
        return [g.op("FusedMatMul", y, g.weight(3, 8), domain=RUNTIME, transB=1, alpha=0.5)]

    proto = made(build)
    model = from_proto(proto)
    assert operators(model) == ["Gemm", activation, "MatMul", "Mul"]
    assert_equal(proto, model, 0.0)
    assert len(Layers(model)) == 2


def attention(g: Graph, mask: str = "", **settings: object) -> list[str]:
    x = given(g, "x", "batch", LENGTH, 8)
    sizes = settings.get("qkv_hidden_sizes", [WIDTH] * 3)
    weight, bias = g.weight(8, sum(sizes), fan_in=8), g.vector(sum(sizes))  # type: ignore[call-overload]
    return [g.op("Attention", x, weight, bias, mask, domain=RUNTIME, num_heads=3, **settings)]


MASKS = {"none": (), "lengths": ("batch",), "keys": ("batch", LENGTH), "pairs": ("batch", LENGTH, LENGTH)}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "settings", [{}, {"unidirectional": 1}, {"qkv_hidden_sizes": [12, 12, 18]}, {"scale": 0.1}], ids=str
)
def test_attention_is_a_product_and_heads(mask: str, settings: dict[str, object]) -> None:
    def build(g: Graph) -> list[str]:
        name = given(g, "mask", *MASKS[mask], kind=TensorProto.INT32) if MASKS[mask] else ""
        return attention(g, name, **settings)

    proto = made(build)
    model = from_proto(proto)
    assert operators(model) == ["MatMul", "Add", "Split", "MultiHeadAttention"]
    assert_equal(proto, model, 1e-5)
    (layer,) = Layers(model)
    assert layer.bias is not None


def test_heads_of_an_attention_can_go() -> None:
    def build(g: Graph) -> list[str]:
        (y,) = attention(g)
        return [g.op("MatMul", y, g.weight(WIDTH, 4, fan_in=12))]

    groups = [group for group in analyse(from_proto(made(build))).groups if not group.frozen_by]
    assert {len(group.atoms) for group in groups} == {3, 4}  # heads, and widths of queries with keys and of values


@pytest.mark.parametrize("case", ["mask of starts and ends", "a cache", "present keys"])
def test_what_others_cannot_say_stays_as_it_is(case: str) -> None:
    def build(g: Graph) -> list[str]:
        if case == "mask of starts and ends":
            return attention(g, given(g, "mask", 2 * BATCH, kind=TensorProto.INT32))
        x, weight, bias = given(g, "x", BATCH, LENGTH, 8), g.weight(8, 36, fan_in=8), g.vector(36)
        past = given(g, "past", 2, BATCH, 3, 2, 4) if case == "a cache" else ""
        y, present = g.ops("Attention", x, weight, bias, "", past, count=2, domain=RUNTIME, num_heads=3)
        return [y, present]

    proto = made(build)
    model = from_proto(proto)
    assert operators(model) == ["Attention"]
    assert_equal(proto, model, 0.0)


@pytest.mark.parametrize("segments", [False, True], ids=["", "segments"])
@pytest.mark.parametrize("places", [False, True], ids=["", "places"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_embeddings_are_tables_and_a_normalization(segments: bool, places: bool, outputs: int) -> None:
    def build(g: Graph) -> list[str]:
        words, whole = given(g, "words", "batch", "length", kind=TensorProto.INT32), TensorProto.INT32
        segment = given(g, "segments", "batch", "length", kind=whole) if segments else ""
        place = given(g, "places", "batch", "length", kind=whole) if places else ""
        mask = given(g, "mask", "batch", "length", kind=whole)
        tables = [g.weight(9, 8), g.weight(7, 8), g.weight(6, 8) if segments else ""]
        operands = [words, segment, *tables, g.scale(8), g.vector(8), mask, *([place] if places else [])]
        return g.ops("EmbedLayerNormalization", *operands, count=max(2, outputs), domain=RUNTIME, epsilon=0.01)[
            :outputs
        ]

    proto = made(build)
    model = from_proto(proto)
    assert "EmbedLayerNormalization" not in operators(model)
    assert_equal(proto, model, 1e-5)


def test_names_stay_unique_and_the_notes_tell(tmp_path: object) -> None:
    def build(g: Graph) -> list[str]:
        x = given(g, "x", "batch", 4, 7, 7)
        for _ in range(2):
            x = g.op("FusedConv", x, g.weight(4, 4, 3, 3), domain=RUNTIME, activation="Relu")
        return [g.op("Relu", x)]

    model = from_proto(made(build))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert model.notes == ["2 FusedConv of ONNX Runtime written as the operators that they join"]
