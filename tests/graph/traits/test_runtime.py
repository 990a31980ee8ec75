"""What is told of ONNX Runtime's kernels, against the graph that it makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest

from intaglio.graph.traits import Runtime, Trait, has, operator, operators

BETWEEN = {
    "Pad": "y = Pad(x, pads)",
    "SpaceToDepth": "y = SpaceToDepth <blocksize = 2> (x)",
    "DepthToSpace": "y = DepthToSpace <blocksize = 2> (x)",
    "Transpose": "y = Transpose <perm = [0, 2, 3, 1]> (x)",
    "Flatten": "y = Flatten(x)",
    "MaxPool": "y = MaxPool <kernel_shape = [2, 2]> (x)",
    "Sigmoid": "y = Sigmoid(x)",
    "Tanh": "y = Tanh(x)",
    "Neg": "y = Neg(x)",
}


def made(body: str, folder: Path) -> Counter[str]:
    """Operators of the graph that the runtime makes of one operator between conversions."""
    path, options = folder / "optimized.onnx", onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> one (uint8[1, 4, 8, 8] q) => (uint8 r)'
        "<float s = {0.1}, uint8 z = {0}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>"
        "{ x = DequantizeLinear(q, s, z) " + body + " r = QuantizeLinear(y, s, z) }"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("op", BETWEEN)
def test_conversions_go_where_there_is_an_integer_kernel_that_is_not_written_between_integers(
    op: str, tmp_path: Path
) -> None:
    gone = "QuantizeLinear" not in made(BETWEEN[op], tmp_path)
    assert gone == (Runtime.ORT in operator(op).integer and not has(op, Trait.ON_INTEGERS))


def test_those_that_are_written_between_integers_are_tried() -> None:
    assert operators(Trait.ON_INTEGERS) <= set(BETWEEN)
