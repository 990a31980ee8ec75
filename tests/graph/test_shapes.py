"""What a file states of its outputs is believed only where it does not contradict what the nodes make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

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
