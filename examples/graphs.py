"""Write the two small graphs that docs/architecture.md explains coupling with.

    python examples/graphs.py            # rewrites residual.onnx and attention.onnx beside it

Their weights are random: they are there to be looked at with ``intaglio groups``, not to be used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx.parser import parse_model

# A residual block, flattened into a linear layer.
RESIDUAL = """
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

# Attention with two heads of four, written as exporters write it.
ATTENTION = """
<ir_version: 9, opset_import: ["" : 17]>
attention (float[N, 5, 16] x) => (float[N, 5, 16] y)
<float[16, 8] query_w, float[16, 8] key_w, float[16, 8] value_w, float[8, 16] out_w,
 int64[4] apart = {0, 0, 2, 4}, int64[3] together = {0, 0, 8}>
{
  [query] q = MatMul (x, query_w)
  [key] k = MatMul (x, key_w)
  [value] v = MatMul (x, value_w)
  [query_apart] qa = Reshape (q, apart)
  [key_apart] ka = Reshape (k, apart)
  [value_apart] va = Reshape (v, apart)
  [query_heads] qh = Transpose <perm = [0, 2, 1, 3]> (qa)
  [key_heads] kh = Transpose <perm = [0, 2, 3, 1]> (ka)
  [value_heads] vh = Transpose <perm = [0, 2, 1, 3]> (va)
  [scores] s = MatMul (qh, kh)
  [softmax] p = Softmax <axis = -1> (s)
  [mix] m = MatMul (p, vh)
  [mixed] mt = Transpose <perm = [0, 2, 1, 3]> (m)
  [merge] c = Reshape (mt, together)
  [out] y = MatMul (c, out_w)
}
"""


def build(structure: str) -> onnx.ModelProto:
    """The network with weights drawn from a seed."""
    model = parse_model(structure)
    random = np.random.default_rng(0)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        weight = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, value.name))
    del model.graph.value_info[:]
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the small graphs of the documents.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    for structure in (RESIDUAL, ATTENTION):
        model = build(structure)
        onnx.save(model, options.out / f"{model.graph.name}.onnx")


if __name__ == "__main__":
    main()
