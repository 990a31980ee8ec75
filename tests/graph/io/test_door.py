"""What an operator's definition forbids is refused when the model is loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.errors import BadModel
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.schemas import check_constants, check_node
from intaglio.graph.layer import Window


def convolution(**attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", **attributes)
    weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"group": [1.0]}, "'group' is FLOATS, not INT"),
        ({"group": 2**62}, "1 to 2147483647"),
        ({"group": 3}, "3 groups"),
        ({"strides": [1]}, "strides has 1 numbers"),
        ({"kernel_shape": [5, 5]}, "kernel_shape says"),
    ],
)
def test_attributes_that_cannot_be_are_refused(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModel, match=words):
        from_proto(convolution(**attributes))


@pytest.mark.parametrize("captured", [True, False], ids=["of the graph around", "of its own"])
def test_weights_that_nodes_of_bodies_cannot_have_are_refused(captured: bool) -> None:
    number = numpy_helper.from_array(np.array(1, np.float32), "w")
    told = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "a", "b")]
    bodies = [
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], [out], "inside")],
            out,
            [],
            [end],
            [] if captured else [number],
        )
        for out, end in zip("ab", told[1:], strict=True)
    ]
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=bodies[0], else_branch=bodies[1])
    ends = [told[0], helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", ends, [output], [number] if captured else [])
    with pytest.raises(BadModel, match=r"'inside' \(Conv\) is wrong"):
        from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_functions_that_write_out_without_end_are_refused() -> None:
    model = convolution()
    imports = [helper.make_opsetid("f", 1)]
    for k in range(30):
        calls = [helper.make_node(f"F{k + 1}", [a], [b], domain="f") for a, b in ("ab", "bc")]
        model.functions.append(helper.make_function("f", f"F{k}", ["a"], ["c"], calls, imports))
    last = [helper.make_node("F0", ["a"], ["c"], domain="f")]
    looping = onnx.ModelProto()
    looping.CopyFrom(model)
    looping.functions.append(helper.make_function("f", "F30", ["a"], ["c"], last, imports))
    with pytest.raises(BadModel, match="calls itself"):
        from_proto(looping)
    model.graph.node.append(helper.make_node("F0", ["x"], ["z"], domain="f"))
    with pytest.raises(BadModel, match="cannot be written out"):
        from_proto(model)


def test_attributes_without_a_type_are_refused() -> None:
    model = convolution(group=1)
    model.graph.node[0].attribute[0].type = 0
    with pytest.raises(BadModel, match="does not say what type"):
        from_proto(model)


def test_attributes_with_a_name_that_is_no_text_are_refused() -> None:
    damaged = convolution(group=1).SerializeToString().replace(b"group", b"gr\x80up")
    with pytest.raises(BadModel, match="is no text"):
        from_proto(onnx.ModelProto.FromString(damaged))


def test_data_with_a_name_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    onnx.save(convolution(), tmp_path / "m" / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    load(tmp_path / "m" / "m.onnx")
    os.link(tmp_path / "m" / "w", tmp_path / "m" / "again")
    load(tmp_path / "m" / "m.onnx")
    os.link(tmp_path / "m" / "w", tmp_path / "outside")
    with pytest.raises(BadModel, match="hard link"):
        load(tmp_path / "m" / "m.onnx")


def test_lists_of_numbers_have_one_axis() -> None:
    shape = numpy_helper.from_array(np.array([[1], [-1]]), "s")
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    with pytest.raises(BadModel, match="Reshape") as caught:
        from_proto(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [shape])))
    assert "list of numbers" in caught.value.why


@pytest.mark.parametrize("attributes", [{"pads": [1, 1, 1, 1]}, {"strides": [1, 1]}, {"dilations": [1, 1]}])
def test_a_computed_kernel_of_other_axes_than_its_node_is_told(attributes: dict[str, Any]) -> None:
    """The door sees constants alone; what a Cast gives is met where layers are looked at."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", **attributes)
    assert Window.of(node, (3, 3)).kernel == (3, 3)
    with pytest.raises(BadModel, match="'c'"):
        Window.of(node, (9,))


def network(*nodes: onnx.NodeProto, opset: int = 17, x: tuple[int | str, ...] = ("N", 4, 8, 8)) -> onnx.ModelProto:
    """Nodes from x to y, and weights for 4 channels."""
    held = {"w": (6, 4, 3, 3), "m": (4, 5), "v": (4,), "r": (1, 12, 4), "h": (1, 12, 3)}
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in held.items()]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x), helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


MISFITS: dict[str, tuple[onnx.NodeProto, tuple[int | str, ...], str]] = {
    "Conv": (helper.make_node("Conv", ["x", "w"], ["y"]), ("N", 3, 8, 8), "3 channels, its weights are for 4"),
    "rank": (helper.make_node("Conv", ["x", "w"], ["y"]), ("N", 4, 8), "3 axes, its weight 4"),
    "ConvTranspose": (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), ("N", 4, 8, 8), "for 6"),
    "matrix": (helper.make_node("Gemm", ["x", "m"], ["y"]), ("N", 2, 4), "operand 0 has 3 axes"),
    "Gemm": (helper.make_node("Gemm", ["x", "m"], ["y"]), ("N", 5), "5 channels, its weights are for 4"),
    "transposed": (helper.make_node("Gemm", ["x", "m"], ["y"], transA=1), (5, "N"), "5 channels"),
    "normalization": (helper.make_node("BatchNormalization", ["x", *"vvvv"], ["y"]), ("N", 6, 2), "6 channels"),
    "LSTM": (helper.make_node("LSTM", ["x", "r", "h"], ["y"], hidden_size=3), ("T", "N", 6), "6 channels"),
    "order": (helper.make_node("Transpose", ["x"], ["y"], perm=[0]), ("N", 4), "1 axes of 2"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_operands_that_fit_at_no_size_are_told(name: str) -> None:
    node, x, words = MISFITS[name]
    with pytest.raises(BadModel) as caught:
        _ = index_of(from_proto(network(node, x=x))).shapes
    assert re.search(words, caught.value.why or ""), caught.value.why


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", "Gemm", "transposed", "normalization", "LSTM"])
def test_lengths_that_callers_may_choose_fit(name: str) -> None:
    node, x, _ = MISFITS[name]
    assert index_of(from_proto(network(node, x=tuple(f"{name}{a}" for a in range(len(x)))))).shapes


def test_an_order_of_axes_names_each_once() -> None:
    with pytest.raises(BadModel, match="is wrong") as caught:
        from_proto(network(helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 1, 3])))
    assert "no order of axes" in (caught.value.why or "")


def test_operators_that_a_set_does_not_have_keep_it_old() -> None:
    model = from_proto(network(helper.make_node("Resize", ["x"], ["y"]), opset=9))
    assert model.opset == 9
    assert any("the operator set has no Resize" in note for note in model.notes)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_flag_of_which_runtimes_make_different_things_is_refused(number: int) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=number)
    with pytest.raises(BadModel, match=f"'keepdims' is {number}, not 0 to 1"):
        from_proto(network(node))


def test_a_flag_of_any_number_is_a_flag() -> None:
    model = from_proto(network(helper.make_node("Gemm", ["x", "m"], ["y"], transA=64, transB=-5), x=(5, "N")))
    assert index_of(model).shapes.dims["y"] == (1, 4)


def test_attributes_of_the_runtimes_own_operators_have_the_types_of_those_they_are_like() -> None:
    node = helper.make_node(
        "FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="Relu", pads=[0, 0, 0, 0]
    )
    check_node(node, 17)
    (pads,) = (a for a in node.attribute if a.name == "pads")
    pads.CopyFrom(helper.make_attribute("pads", 1.5))
    with pytest.raises(BadModel, match="'pads' is FLOAT, not INTS"):
        check_node(node, 17)


@pytest.mark.parametrize("name", ["num_heads", "q_num_heads", "kv_num_heads"])
def test_there_is_a_head_at_least(name: str) -> None:
    """ONNX Runtime divides by the number of heads, and ends the process."""
    attention = helper.make_node("Attention", ["x", "x", "x"], ["y"])
    attention.attribute.append(helper.make_attribute(name, 0))
    with pytest.raises(BadModel, match=f"'{name}' is 0, not 1 to"):
        check_node(attention, 23)


OF_INTEGERS = {
    "QLinearSoftmax": (["q", "a", "z", "a", "z"], (1, 2, 3, 4)),
    "QLinearConcat": (["a", "z", "q", "a", "z", "q", "a", "z"], (0, 1, 3, 4, 6, 7)),
    "QLinearWhere": (["c", "q", "a", "z", "q", "a", "z", "a", "z"], (2, 3, 5, 6, 7, 8)),
}


@pytest.mark.parametrize(("op", "place"), [(op, k) for op, (_, places) in OF_INTEGERS.items() for k in places])
def test_scales_and_zero_points_hold_a_number(op: str, place: int) -> None:
    """ONNX Runtime reads the first, and ends the process."""
    operands = list(OF_INTEGERS[op][0])
    weights: dict[str, np.ndarray] = {"a": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
    nothing = np.zeros(0, weights[operands[place]].dtype)
    operands[place] = "nothing"
    node = helper.make_node(op, operands, ["y"], domain="com.microsoft")
    check_constants([node], 17, weights)
    with pytest.raises(BadModel, match=f"operand {place}, a scale or a zero point, holds no number"):
        check_constants([node], 17, {**weights, "nothing": nothing})


TOO_FEW: dict[str, tuple[str, list[str], dict[str, Any], str]] = {
    "Sum": ("Sum", ["x", "", "x"], {}, "left out"),
    "Einsum": ("Einsum", ["x", ""], {"equation": "ab,bc->ac"}, "left out"),
    "Resize": ("Resize", ["x"], {}, "neither scales nor sizes"),
    "no axes": ("Squeeze", ["x", "none"], {}, "its list of axes is empty"),
    "letters": ("Einsum", ["x", "m"], {"equation": "ab,b->a"}, "operand 1 has 2 axes, its equation 1"),
    "regions": ("MaxRoiPool", ["x", "h"], {"pooled_shape": [1, 1]}, r"its regions have shape \[1, 12, 3\]"),
}


@pytest.mark.parametrize("case", TOO_FEW)
def test_operands_at_which_a_runtime_ends_the_process_are_told(case: str) -> None:
    op, operands, attributes, words = TOO_FEW[case]
    proto = network(helper.make_node(op, operands, ["y"], **attributes), x=("N", 4))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.int64), "none"))
    with pytest.raises(BadModel, match=words):
        _ = index_of(from_proto(proto)).shapes
