"""Costs agree with figures found in other ways: by running, by counting ones, by other counters, by hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser
from onnx.backend.test.loader import load_model_tests
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from intaglio.graph.cost import cost
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import save, to_proto

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# Multiply-accumulates and learned parameters as papers and model zoos give them, in millions, and the normalization
# statistics that the files hold besides. The DenseNet is Caffe's, which scales after each normalization once more.
PUBLISHED = {
    "light_resnet50": (4089, 25.56, 0.05),
    "light_vgg19": (19632, 143.67, 0),
    "light_squeezenet": (349, 1.24, 0),
    "light_densenet121": (2834, 7.98, 0.17),
    "light_bvlc_alexnet": (655, 60.97, 0),
}


def run(proto: onnx.ModelProto, feed: dict[str, Any], names: list[str] | None = None) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(names, feed))


def macs_of(node: onnx.NodeProto, inputs: dict[str, np.ndarray], opset: int = 17) -> int:
    """MACs of one node whose inputs have these shapes."""
    return cost(from_proto(single(node, inputs, opset))).macs


def single(node: onnx.NodeProto, inputs: dict[str, np.ndarray], opset: int = 17) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in inputs.items()
    ]
    kind = helper.np_dtype_to_tensor_dtype(next(iter(inputs.values())).dtype)
    outputs = [helper.make_tensor_value_info(o, kind, None) for o in node.output if o]
    graph = helper.make_graph([node], "g", values, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: str(path.stem))
def test_light_models_cost_what_their_tensors_at_run_time_say(path: Path) -> None:
    model = load(path)
    proto = to_proto(model)
    counted = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    watched = [name for n in counted for name in (n.input[0], n.input[1], n.output[0])]
    graph_inputs = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input}
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in dict.fromkeys(watched) if n not in graph_inputs)
    feed = {name: np.ones(dims, np.float32) for name, dims in graph_inputs.items()}
    names = [o.name for o in proto.graph.output]
    seen = feed | dict(zip(names, run(proto, feed, names), strict=True))
    expected = 0
    for node in counted:
        x, w, y = seen[node.input[0]], seen[node.input[1]], seen[node.output[0]]
        if node.op_type == "Conv":
            expected += y.shape[0] * int(np.prod(y.shape[2:])) * w.size  # every position meets every weight once
        else:
            expected += x.size * y.shape[-1]  # every input element goes into every output column
    costs = cost(model)
    assert costs.macs == expected
    assert costs.uncounted == []
    if path.stem in PUBLISHED:
        millions, learned, statistics = PUBLISHED[path.stem]
        assert round(costs.macs / 1e6) == millions
        assert costs.params / 1e6 == pytest.approx(learned + statistics, abs=0.01)


# With ones everywhere, each output element is the number of multiply-accumulates that made it.
sizes = st.integers(1, 5)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    group, per_in, per_out, rank = draw(sizes), draw(sizes), draw(sizes), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    space = [draw(st.integers(5, 8)) for _ in range(rank)]
    options: dict[str, Any] = {"group": group, "strides": [draw(st.integers(1, 2)) for _ in range(rank)]}
    x = ones(draw(sizes), group * per_in, *space)
    if draw(st.booleans()):
        return helper.make_node("Conv", ["x", "w"], ["y"], **options), {
            "x": x,
            "w": ones(group * per_out, per_in, *kernel),
        }
    return (
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], **options),
        {"x": x, "w": ones(group * per_in, per_out, *kernel)},
    )


@st.composite
def products(draw: st.DrawFn) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    n, k, m, b, c = (draw(sizes) for _ in range(5))
    kind = draw(st.sampled_from(("MatMul", "vector", "broadcast", "Gemm", "Einsum", "ellipsis", "implicit")))
    if kind == "Gemm":
        flags = draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
        x, w = ones(n, k), ones(k, m)
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=flags[0], transB=flags[1])
        return node, {"x": x.T if flags[0] else x, "w": w.T if flags[1] else w}
    equations = {"Einsum": "bnk,cmk->nbmc", "ellipsis": "...nk,k...m->...nm", "implicit": "bnk,bkm"}
    shapes: dict[str, list[tuple[int, ...]]] = {
        "MatMul": [(b, n, k), (b, k, m)],
        "vector": [(b, n, k), (k,)],
        "broadcast": [(b, 1, n, k), (c, k, m)],
        "Einsum": [(b, n, k), (c, m, k)],
        "ellipsis": [(b, c, n, k), (k, 1, c, m)],
        "implicit": [(b, n, k), (b, k, m)],
    }
    inputs = {"x": ones(*shapes[kind][0]), "w": ones(*shapes[kind][1])}
    if kind in equations:
        return helper.make_node("Einsum", ["x", "w"], ["y"], equation=equations[kind]), inputs
    return helper.make_node("MatMul", ["x", "w"], ["y"]), inputs


@settings(max_examples=60, deadline=None)
@given(st.one_of(convolutions(), products()))
def test_with_ones_everywhere_the_outputs_sum_to_the_macs(case: tuple[onnx.NodeProto, dict[str, np.ndarray]]) -> None:
    node, inputs = case
    (y,) = run(single(node, inputs), inputs)
    assert macs_of(node, inputs) == round(float(y.sum(dtype=np.float64)))


def test_einsum_multiplies_from_left_to_right() -> None:
    inputs = {"a": ones(2, 3), "b": ones(3, 5), "c": ones(5, 7)}
    node = helper.make_node("Einsum", list(inputs), ["y"], equation="ij,jk,kl->il")
    assert macs_of(node, inputs) == 2 * 3 * 5 + 2 * 5 * 7
    assert macs_of(helper.make_node("Einsum", ["a"], ["y"], equation="ij->ji"), {"a": ones(2, 3)}) == 0


def attention_cases() -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto]]:
    """Attention as one node, and the same written out in primitive operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = {str(c.name): c.model for c in load_model_tests(kind="node") if "attention" in str(c.name)}
    for name, whole in cases.items():
        expanded = cases.get(f"{name}_expanded")
        if name.startswith("test_attention_") and whole is not None and expanded is not None:
            yield name, whole, expanded


def test_attention_costs_what_its_written_out_form_costs() -> None:
    compared = 0
    for name, whole, expanded in attention_cases():
        if {i.name for i in whole.graph.input} & {"nonpad_kv_seqlen"}:
            continue
        parts = cost(from_proto(expanded))
        if parts.uncounted:
            continue
        # Grouped queries are written out by repeating keys, not by multiplying more.
        assert cost(from_proto(whole)).macs == parts.macs, name
        compared += 1
    assert compared >= 20


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_multiply_all_weights_at_each_step(op: str, gates: int, direction: str) -> None:
    time, batch, width, hidden = 5, 2, 3, 4
    ways = 2 if direction == "bidirectional" else 1
    inputs = {
        "x": ones(time, batch, width),
        "w": ones(ways, gates * hidden, width),
        "r": ones(ways, gates * hidden, hidden),
    }
    node = helper.make_node(op, list(inputs), ["y"], hidden_size=hidden, direction=direction)
    assert macs_of(node, inputs) == ways * time * batch * gates * hidden * (width + hidden)


def small_network() -> onnx.ModelProto:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] x) => (float[1,10] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
            r = Relu (c)
            f = Flatten (r)
            m = MatMul (f, v)
            y = Add (m, d)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in (("w", (16, 3, 3, 3)), ("b", (16,)), ("v", (1024, 10)), ("d", (10,))):
        array = rng.standard_normal(shape, dtype=np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


class OneBatch(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), dtype=np.float32)}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("way", ["dynamic", "QDQ", "QOperator"])
def test_a_quantized_model_has_the_macs_and_parameters_of_its_float_form(way: str, tmp_path: Path) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(small_network(), source)
    if way == "dynamic":
        quantize_dynamic(source, target)
    else:
        quantize_static(source, target, OneBatch(), quant_format=QuantFormat[way], per_channel=True)
    before, after = cost(load(source)), cost(load(target))
    assert after.macs == before.macs
    assert 0 <= after.params - before.params <= 2  # the dynamic form multiplies by the scales of its two weights
    assert after.weight_bytes < before.weight_bytes


def test_real_models_cost_what_their_makers_say(shared_data: Path) -> None:
    resnet = cost(load(shared_data / "resnet20.onnx"))
    assert resnet.macs == 40_551_040  # 40.55 M, the figure of every CIFAR ResNet-20 with projection-free shortcuts
    assert resnet.peak_activation_bytes == 3 * 16 * 32 * 32 * 4  # a block's input, the sum's other operand, its result


def test_layers_that_share_a_weight_count_it_once() -> None:
    model = from_proto(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) '
            "<float[4,4] w = {1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0}> "
            "{ h = MatMul (x, w) y = MatMul (h, w) }"
        )
    )
    costs = cost(model)
    assert (costs.params, costs.weight_bytes, costs.macs) == (16, 64, 32)
    assert [n.params for n in costs.nodes] == [16, 16]


def test_peak_memory_follows_the_lives_of_tensors() -> None:
    model = from_proto(
        parser.parse_model(
            """
        <ir_version: 8, opset_import: ["" : 17]> g (float[1,100] x) => (float[1,100] y) {
            a = Relu (x)
            b = Concat <axis = 1> (a, a)
            c = ReduceSum (b, axes)
            s = Shape (big)
            y = Add (a, c)
        }""".replace("{\n", "<int64[1] axes = {1}, float[3] big = {1.0, 2.0, 3.0}> {\n", 1)
        )
    )
    # x | x a | a b | a b c | a c y: at most a (400) + b (800) + c (4) bytes
    assert cost(model).peak_activation_bytes == 1204


def test_bodies_of_control_flow_and_functions_are_counted() -> None:
    proto = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17, "mine" : 1]>
        g (float[2,4] x, bool c, int64 n) => (float[2,4] y) {
            f = mine.Layer (x, w)
            i = If (c) <then_branch = t () => (float[2,4] u) { h = MatMul (f, w) u = MatMul (h, w) },
                        else_branch = e () => (float[2,4] v) { v = MatMul (f, w) }>
            y = Loop (n, c, i) <body = b (int64 k, bool go, float[2,4] z) => (bool on, float[2,4] o)
                { on = Identity (go) o = MatMul (z, w) }>
        }
        <domain: "mine", opset_import: ["" : 17]> Layer (a, q) => (r) { r = MatMul (a, q) }""")
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    costs = cost(from_proto(proto))
    assert [(n.op, n.macs) for n in costs.nodes] == [("Layer", 32), ("If", 64), ("Loop", 32)]
    assert costs.params == 16


def test_a_shape_that_is_not_known_is_said() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> g (float[N,4] x) => (float y) { h = mine.Unknown (x) y = MatMul (h, h) }'
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert cost(from_proto(proto)).uncounted == ["y"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_costs_agree_with_the_counter_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=2, dilation=2, groups=3, bias=False),
        nn.ConvTranspose2d(24, 8, 2, stride=2),
        nn.Flatten(2),
        nn.Linear(256, 32),
        nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True),
    ).eval()
    x = torch.randn(1, 3, 16, 16)
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into fused kernels
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            net(x)
        torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=False, opset_version=17)
    torch.backends.mha.set_fastpath_enabled(True)
    model = load(tmp_path / "net.onnx")
    assert cost(model).macs == counter.get_total_flops() / 2
    save(model, tmp_path / "again.onnx")
    assert cost(load(tmp_path / "again.onnx")) == cost(model)


def test_scales_put_together_from_float_weights_tell_the_size_of_an_image() -> None:
    body = """
        scales = Concat <axis = 0> (whole, twice)
        large = Resize <mode = "nearest"> (x, , scales)
        y = Conv (large, w)
    """
    weights = "float[2] whole = {1, 1}, float[2] twice = {2, 2}, float[4,3,1,1] w = {1,1,1,1,1,1,1,1,1,1,1,1}"
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,5,5] x) => (y) <{weights}> {{ {body} }}'
    model = from_proto(parser.parse_model(text))
    found = cost(model)
    assert (found.macs, found.uncounted) == (4 * 3 * 100, [])
    assert found.params == 16


@pytest.mark.parametrize(("op", "more", "macs"), [
    ("LinearRegressor", {"coefficients": [0.5] * 8, "targets": 2}, 3 * 8),
    ("SVMRegressor", {"support_vectors": [0.5] * 20, "coefficients": [1.0] * 5, "n_supports": 5, "rho": [0.0]}, 3 * 20),
])  # fmt: skip
def test_learners_multiply_rows_by_what_their_attributes_hold(op: str, more: dict[str, Any], macs: int) -> None:
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **more)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [3, 4]), ("y", None))
    ]
    graph = helper.make_graph([node], "learner", ends[:1], ends[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    assert cost(from_proto(helper.make_model(graph, opset_imports=imports, ir_version=8))).macs == macs
