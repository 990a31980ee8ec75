"""What the graph is told of operators on bits is what their definitions do when they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, inliner

from intaglio.graph import bits
from intaglio.graph.cost import cost
from intaglio.graph.errors import BadModel
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.opset import raise_opset
from intaglio.graph.io.save import save, to_proto
from intaglio.kernels import operators
from intaglio.kernels.packing import pack
from tests.packed import Net, binary_cnn, convolution, one_bit_cnn

NETWORKS = (binary_cnn, one_bit_cnn)


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor that a node makes."""
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=o) for n in whole.graph.node for o in n.output)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def assert_shapes_are_those_of_a_run(proto: onnx.ModelProto, feed: dict[str, np.ndarray], batch: int = 1) -> None:
    known = index_of(from_proto(proto)).shapes_at(batch)
    for name, value in run(proto, feed).items():
        assert known.dims[name] == value.shape
        assert known.dtypes[name] == helper.np_dtype_to_tensor_dtype(value.dtype)


def test_every_operator_of_the_domain_is_known_to_the_graph() -> None:
    assert set(bits.BIT_OPERATORS) == set(operators.OPERATORS)
    assert bits.DOMAIN == operators.DOMAIN
    for name, known in bits.BIT_OPERATORS.items():
        assert known.inputs == len(operators.definition(name).input)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_shapes_follow_through_a_network_with_an_open_batch(network: Callable[[], Any], batch: int) -> None:
    x = np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)
    assert_shapes_are_those_of_a_run(network(), {"x": x}, batch)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Net, str, int, int]:
    """A network of one convolution with everything +1, its result, its channels and its image's side."""
    group, per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    two = st.integers(1, 2)
    kernel, dilations = [draw(st.integers(1, 3)), draw(st.integers(1, 3))], [draw(two), draw(two)]
    size = draw(st.integers(5, 7))
    attributes = convolution(
        group * per_in, kernel=kernel, strides=[draw(two), draw(two)], dilations=dilations, group=group
    )
    attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(4)]
    n = Net()
    planes = draw(two)
    weight = n.weight(pack(np.ones((planes, group * per_out, kernel[0] * kernel[1] * per_in))))
    if draw(st.booleans()):
        factors = n.weight(np.ones(group * per_out, np.float32)), n.weight(np.zeros(group * per_out, np.float32))
        out = n.bits("BConv", n.packed("x", 0, 2, 3, 1), weight, *factors, **attributes)
    else:
        threshold = n.weight(np.zeros(group * per_out, np.int32))
        out = n.bits("BConvBits", n.packed("x", 0, 2, 3, 1), weight, threshold, **attributes)
    return n, out, group * per_in, size


@given(convolutions())
@settings(max_examples=30, deadline=None)
def test_convolutions_have_the_shape_and_the_bit_operations_of_a_run(drawn: tuple[Net, str, int, int]) -> None:
    n, out, channels, size = drawn
    kind = TensorProto.FLOAT if n.nodes[-1].op_type == "BConv" else TensorProto.UINT8
    proto = n.model({"x": ["N", channels, size, size]}, {out: kind})
    x = np.ones((2, channels, size, size), np.float32)
    assert_shapes_are_those_of_a_run(proto, {"x": x}, 2)
    found = cost(from_proto(proto))
    assert (found.macs, found.uncounted) == (0, [])
    if kind == TensorProto.FLOAT:  # each +1 times +1 adds one to the result, once for all planes
        planes = n.weights[n.nodes[-1].input[1]].shape[0]
        assert found.bops == run(proto, {"x": x[:1]})[out].sum() * planes


@given(st.lists(st.integers(1, 3), min_size=1, max_size=2), st.integers(1, 20), st.integers(1, 20), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_products_have_the_shape_and_the_operations_of_a_run(rows: list[int], k: int, count: int, planes: int) -> None:
    n = Net()
    packed = n.packed("x", *range(len(rows) + 1))
    weight = n.weight(pack(np.ones((planes, count, k))))
    y = n.bits("BGemm", packed, weight, n.weight(np.ones(count, np.float32)), n.floats(count), channels=k)
    z = n.bits("BGemmBits", packed, weight, n.weight(np.zeros(count, np.int32)), channels=k)
    scale = n.weight(np.ones((planes, count, 1), np.float32))
    w = n.bits("MatMul1Bit", "x", weight, scale, channels=k, block=k)
    v = n.bits("MatMul1BitInt8", "x", weight, scale, channels=k, block=k)
    proto = n.model({"x": [*rows, k]}, {y: TensorProto.FLOAT, z: TensorProto.UINT8, w: 1, v: 1})
    assert_shapes_are_those_of_a_run(proto, {"x": np.ones((*rows, k), np.float32)})
    costs = {c.name: (c.macs, c.bops, c.params) for c in cost(from_proto(proto)).nodes}
    one = int(np.prod(rows)) * count * k
    assert costs[y] == (0, planes * one, k * count + count)  # a weight of several planes is one weight
    assert costs[z] == (0, planes * one, k * count + count)  # thresholds stand for what shifted the float result
    assert costs[w] == costs[v] == (one, 0, k * count)


@given(st.integers(1, 20), st.integers(4, 9), st.integers(2, 3), st.integers(1, 3), st.integers(0, 1))
@settings(max_examples=15, deadline=None)
def test_pooling_has_the_shape_of_a_run(channels: int, size: int, kernel: int, stride: int, pad: int) -> None:
    n = Net()
    attributes = {"kernel": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    y = n.bits("BMaxPool", n.packed("x", 0, 2, 3, 1), channels=channels, **attributes)
    proto = n.model({"x": [1, channels, size, size]}, {y: TensorProto.UINT8})
    assert_shapes_are_those_of_a_run(proto, {"x": np.ones((1, channels, size, size), np.float32)})


def inlined(network: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return inliner.inline_local_functions(network(opset=13))


def float_twin() -> onnx.ModelProto:
    """The network of ``one_bit_cnn`` as floats."""
    n = Net()
    stem = n.node("Relu", n.node("Conv", "x", n.floats(12, 3, 3, 3), n.floats(12), pads=[1] * 4))
    image = n.node("Relu", n.node("Conv", stem, n.floats(16, 12, 3, 3), n.floats(16), pads=[1] * 4))
    flat = n.node("Flatten", n.node("GlobalAveragePool", image))
    return n.model({"x": ["N", 3, 8, 8]}, {n.node("MatMul", flat, n.floats(16, 10)): TensorProto.FLOAT})


@pytest.mark.parametrize("form", [one_bit_cnn, lambda: inlined(one_bit_cnn)], ids=["packed", "standard operators"])
def test_weights_of_bits_count_as_the_floats_they_stand_for(form: Callable[[], onnx.ModelProto]) -> None:
    model = from_proto(form())
    bits_, floats = cost(model), cost(from_proto(float_twin()))
    assert (bits_.params, bits_.macs, bits_.bops) == (floats.params, floats.macs, 0)
    brought = sum(w.nbytes for name, w in model.weights.items() if "__" in name)  # constants of the definitions
    assert bits_.weight_bytes - brought < floats.weight_bytes / 4


def test_definitions_are_not_counted_and_weights_take_their_bytes() -> None:
    proto = binary_cnn()
    found = cost(from_proto(proto))
    stated = onnx.ModelProto()
    stated.CopyFrom(proto)
    del stated.functions[:]
    assert cost(from_proto(stated)) == found
    assert found.weight_bytes == sum(len(t.raw_data) for t in proto.graph.initializer)
    assert found.macs == 12 * 64 * 27 + 12 * 16 * 24 + 160
    assert found.bops == 12 * 64 * 108 * (2 + 1) + 24 * 16 * 108 + 16 * 12
    assert found.equivalent_macs == found.macs + found.bops / 64


@pytest.mark.parametrize("network", NETWORKS)
def test_a_packed_file_keeps_its_definitions_and_its_bits(network: Callable[[], Any], tmp_path: Path) -> None:
    proto = network()
    path, again = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(proto, path)
    save(load(path), again)
    kept = onnx.load(again)
    assert [f.SerializeToString() for f in kept.functions] == [f.SerializeToString() for f in proto.functions]
    assert kept.opset_import == proto.opset_import
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    old, new = run(proto, {"x": x}), run(kept, {"x": x})
    assert all(new[name].tobytes() == old[name].tobytes() for name in new)
    save(load(again), path)
    assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_operator_set_around_bits_can_be_raised(network: Callable[..., Any]) -> None:
    proto = network(opset=13)
    raised = raise_opset(from_proto(proto), 21)
    assert raised.opset == 21
    onnx.checker.check_model(to_proto(raised), full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    (y,) = (o.name for o in proto.graph.output)
    assert run(to_proto(raised), {"x": x})[y].tobytes() == run(proto, {"x": x})[y].tobytes()


WRONG: dict[str, tuple[str, Any, str]] = {
    "channels of the image": ("bconv1", {"channels": 20}, "last axis of its image is 2 long, 3"),
    "length of a filter": ("bconv1", {"kernel": [3, 2]}, "a filter is 14 long, 9"),
    "groups": ("bconv1", {"group": 5}, "no multiple of 5 groups"),
    "window": ("bconv1", {"dilations": [9, 9]}, "does not fit into an image of 8 x 8"),
    "no kernel": ("bconv1", {"kernel": None}, "'kernel' is no list of 2 numbers"),
    "no channels": ("bgemm1", {"channels": None}, "'channels' is no positive number"),
    "order": ("bitpack1", {"perm": [0, 1, 1, 2]}, "fits no tensor of 4 axes"),
    "row of floats": ("matmul1bit1", {"channels": 9}, "its first input is 16 long, 9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_operands_that_do_not_fit_are_told_with_their_node(case: str) -> None:
    name, changes, text = WRONG[case]
    proto = binary_cnn()
    (node,) = [n for n in proto.graph.node if n.name == name]
    for key, value in changes.items():
        kept = [a for a in node.attribute if a.name != key]
        del node.attribute[:]
        node.attribute.extend(kept + ([] if value is None else [helper.make_attribute(key, value)]))
    with pytest.raises(BadModel, match=name) as raised:
        index_of(from_proto(proto)).shapes_at(1)
    assert text in str(raised.value)


def test_a_missing_operand_is_told() -> None:
    proto = binary_cnn()
    (node,) = [n for n in proto.graph.node if n.name == "bconv1"]
    del node.input[1:]
    with pytest.raises(BadModel, match="1 inputs instead of 4"):
        index_of(from_proto(proto)).shapes_at(1)


def test_bits_of_an_activation_are_no_weight() -> None:
    """Bits that come with the input are taken apart by the same operators as those of a weight."""
    n = Net()
    packed = n.packed("x", 0, 1)
    places = n.weight(np.arange(8, dtype=np.uint8))
    apart = n.node("BitShift", n.node("Unsqueeze", packed, n.weight(np.array([-1]))), places, direction="RIGHT")
    proto = n.model({"x": [2, 24]}, {apart: TensorProto.UINT8})
    assert cost(from_proto(proto)).params == 1  # the threshold
