"""Write the smallest network that shows coupling: a residual block, flattened into a linear layer.

    python examples/residual.py            # rewrites residual.onnx beside it

The weights are random: the network is there to be looked at with ``intaglio groups``, not to be used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx.parser import parse_model

STRUCTURE = """
<ir_version: 9, opset_import: ["" : 17]>
residual (float[N, 3, 4, 4] image) => (float[N, 2] scores)
<float[6, 3, 3, 3] stem_w, float[8, 6, 3, 3] first_w, float[6, 8, 3, 3] second_w, float[96, 2] head_w, float[2] head_b>
{
  [stem] a = Conv <pads = [1, 1, 1, 1]> (image, stem_w)
  [first] b = Conv <pads = [1, 1, 1, 1]> (a, first_w)
  [relu] c = Relu (b)
  [second] d = Conv <pads = [1, 1, 1, 1]> (c, second_w)
  [add] e = Add (a, d)
  [flatten] f = Flatten (e)
  [head] scores = Gemm (f, head_w, head_b)
}
"""


def build() -> onnx.ModelProto:
    """The network with weights drawn from a seed."""
    model = parse_model(STRUCTURE)
    random = np.random.default_rng(0)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        weight = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, value.name))
    del model.graph.value_info[:]
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the residual block.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    onnx.save(build(), options.out / "residual.onnx")


if __name__ == "__main__":
    main()
