"""How many channels the runtime's convolutions take at once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

UNIT = 4
"""Convolutions whose input channels are no multiple of this fall back to a slower kernel.

Source: ``channel_alignment`` in onnxruntime, core/optimizer/nchwc_transformer.cc.
"""
INTEGER_BLOCK = 16
"""Channels that integer kernels multiply at once: fewer take as long, or longer.

Measured with ONNX Runtime 1.31 and VNNI, two 3x3 convolutions with so many channels between them: 43 us with 16 of 16 at
32x32 pixels, 52 with 8; 30, 27, 19 and 21 with 32, 24, 16 and 8 of 32 at 16x16.
"""
_OUTPUTS = 4


@cache
def channel_block() -> int:
    """Channels in a block of ONNX Runtime's blocked layout on this machine (8 or 16); 1 where it has none.

    Read off the weights of an optimized model: they are padded to full blocks.
    Source: onnxruntime, core/optimizer/nchwc_transformer.cc.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        with tempfile.TemporaryDirectory(prefix="intaglio-") as folder:
            path = Path(folder) / "optimized.onnx"
            options.optimized_model_filepath = str(path)
            ort.InferenceSession(_convolution().SerializeToString(), options, providers=["CPUExecutionProvider"])
            return _block(onnx.load(path))
    except Exception:  # no answer is an answer too: no block is preferred
        return 1


def _convolution() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, UNIT, 8, 8])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.ones((_OUTPUTS, UNIT, 3, 3), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _block(optimized: onnx.ModelProto) -> int:
    sizes = {t.name: t.dims[0] for t in optimized.graph.initializer}
    blocked = [n for n in optimized.graph.node if n.op_type == "Conv" and n.domain == "com.microsoft.nchwc"]
    return max((sizes.get(n.input[1], 1) for n in blocked), default=1)
