"""What a file states of its outputs is believed only where it does not contradict what the nodes make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.parser import parse_model

from intaglio.cli.main import main
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto, load
from intaglio.measure.run.session import open_session, run
from tests.hostile_models import fused

F = TensorProto.FLOAT


def mean(stated: list[int | str], keep: int) -> onnx.ModelProto:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=keep)
    ends = [helper.make_tensor_value_info("x", F, ["N", 4, 16])], [helper.make_tensor_value_info("y", F, stated)]
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph([node], "g", *ends), opset_imports=imports, ir_version=8)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("stated", [["N", 16], [2, 16], [1, 16], [2, 4, 16], ["N", 5, 16], [7, 1, 16], []])
def test_shapes_are_those_that_onnx_runtime_makes(tmp_path: Path, stated: list[int | str], keep: int) -> None:
    onnx.save(mean(stated, keep), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    made = run(open_session(model), {"x": np.zeros((3, 4, 16), np.float32)})["y"]
    assert index_of(model).shapes_at(lambda _: 3).dims["y"] == made.shape


def test_where_nothing_is_found_what_is_stated_counts(tmp_path: Path) -> None:
    """The shape comes of numbers that are an input."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    ends = [helper.make_tensor_value_info("x", F, [4, 4]), helper.make_tensor_value_info("s", TensorProto.INT64, [2])]
    stated = [helper.make_tensor_value_info("y", F, [2, 8]), helper.make_tensor_value_info("z", F, None)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends, stated)), tmp_path / "m.onnx")
    dims = index_of(load(tmp_path / "m.onnx")).shapes.dims
    assert (dims["y"], dims["z"]) == ((2, 8), (2, 8))


def test_an_output_of_another_rank_than_stated_is_told_truly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind operators of ONNX Runtime, too, that shape inference of onnx knows nothing of."""
    model = fused()
    model.graph.node[-1].attribute[1].i = 1
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["export", str(tmp_path / "m.onnx"), "--to", "c", "-o", str(tmp_path / "c"), "--no-measure"]) == 1
    assert "c cannot hold com.microsoft:MultiHeadAttention" in capsys.readouterr().err


def test_lengths_that_no_file_can_state_are_unknown() -> None:
    """A damaged number of heads makes them, of an operator that onnx does not know."""
    model = fused()
    node = next(n for n in model.graph.node if n.op_type == "Attention")
    next(a for a in node.attribute if a.name == "num_heads").i = -(2**63)
    dims = index_of(from_proto(model)).shapes.dims
    assert node.output[0] not in dims
    assert all(0 <= length < 2**63 for lengths in dims.values() for length in lengths)


BODY = """
  (int64 turn, bool go, float[A, 4] a, float[B, C] b, float[4, 4] w, int64 k, int64 limit)
  => (bool go_on, float[A, 4] a2, float[B, D] b2, float[4, 4] w, int64 k2, int64 limit, float[E, 4] each)
  { a1 = MatMul(a, w) a2 = Tanh(a1) b2 = Concat<axis = 1>(b, b) k2 = Add(k, one) kf = Cast<to = 1>(k2) lf = Cast<to = 1>(limit)
    go_on = Less(kf, lf) each = Gather<axis = 0>(x, turn) }
"""
LOOPS = {
    "while": ("", "true"),
    "while within a number of turns": ("three", "true"),
    "never": ("", "false"),
    "no turns": ("none", ""),
}


@pytest.mark.parametrize("said", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_what_a_loop_makes_has_the_shape_that_it_has_in_every_turn(said: tuple[str, str], length: int) -> None:
    """Turns are counted, weights handed through are known; a state that grows is not."""
    loop = f"a_, b_, w_, k_, l_, all = Loop<body = b {BODY}>({', '.join(repr_of(one) for one in said)}, a0, b0, w, zero, limit)"
    nodes = f"size = Shape(x) limit = Gather(size, zero) {loop} y = MatMul(a_, w_) z = ReduceSum(all)"
    model = parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[T, 2, 4] x, float[2, 4] a0, float[2, 1] b0) '
        f"=> (float[P, Q] y, float[R, S] b_, float[U, V, W] all, float[] l_, float z) {{ {nodes} }}"
    )
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    model.graph.output[3].type.tensor_type.elem_type = TensorProto.INT64
    constants = {"one": 1, "zero": 0, "three": 3, "none": 0, "true": True, "false": False}
    values = {name: np.asarray(value) for name, value in constants.items()} | {"w": np.eye(4, dtype=np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    opened = from_proto(model)
    fed = {"x": (length, 2, 4), "a0": (2, 4), "b0": (2, 1)}
    made = run(open_session(opened), {name: np.ones(shape, np.float32) for name, shape in fed.items()})
    known = index_of(opened).shapes_at(lambda _: length).dims
    assert known["y"] == made["y"].shape
    assert known["all"] == made["all"].shape
    assert known["l_"] == ()
    assert "b_" not in known


def repr_of(name: str) -> str:
    """As the text form leaves an operand out."""
    return name or '""'


STEPS = {
    "up": ("one", "k2 = Add(k, one) go_on = Less(k2, limit)"),
    "up to and with": ("one", "k2 = Add(two, k) go_on = LessOrEqual(k2, limit)"),
    "down": ("limit", "k2 = Sub(k, two) go_on = Greater(k2, zero)"),
    "doubled": ("one", "k2 = Add(k, k) go_on = Less(k2, limit)"),
    "squares": ("two", "k2 = Mul(k, k) go_on = Less(k2, limit)"),
    "both": ("one", "k2 = Add(k, one) a = Less(k2, limit) b = Less(k2, twelve) go_on = And(a, b)"),
    "either": ("one", "k2 = Add(k, one) a = Less(k2, limit) b = Less(k2, two) go_on = Or(a, b)"),
    "steps that follow from comparisons": (
        "one",
        "a = Less(k, twelve) c = Cast<to = 7>(a) d = Add(c, one) k2 = Add(k, d) go_on = Less(k2, limit)",
    ),
    "sums of what comparisons say": (
        "one",
        "k2 = Add(k, one) a = Less(k2, twelve) c = Cast<to = 7>(a) d = Add(c, c) e = Add(d, d) f = Add(k2, e) go_on = Less(f, limit)",
    ),
    "small integers that turn round": (
        "one",
        "k1 = Add(k, one) s = Cast<to = 2>(k1) k2 = Cast<to = 7>(s) go_on = Less(k2, limit)",
    ),
    "ends at once": ("limit", "k2 = Add(k, one) go_on = Less(k2, limit)"),
}


@pytest.mark.parametrize(("begin", "step"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("most", ["", "twelve", "below"])
def test_turns_are_counted_as_they_are_taken(begin: str, step: str, most: str) -> None:
    body = f"(int64 turn, bool go, int64 k) => (bool go_on, int64 k2, int64 k2) {{ {step} }}"
    model = parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[T, 3] x) => (int64[P] all) '
        f"{{ size = Shape<end = 1>(x) limit = Squeeze(size) last, all = Loop<body = b {body}>({repr_of(most)}, true, {begin}) }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    constants = {"one": 1, "two": 2, "zero": 0, "twelve": 12, "true": True, "below": -1}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    opened = from_proto(model)
    session = open_session(opened)
    for length in (1, 2, 3, 5, 11, 12, 13, 14, 15, 16, 37, 200 if "Cast<to = 2>" in step else 300):
        made = run(session, {"x": np.ones((length, 3), np.float32)})["all"]
        assert index_of(opened).shapes_at(length).dims.get("all") == made.shape, length
