"""Small networks whose scores and costs can be worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model


def conv_pair(seed: int = 0, width: int = 12) -> Model:
    """Conv (3 to ``width``), BatchNormalization, Relu, Conv (``width`` to 5), mean over the image."""
    rng = np.random.default_rng(seed)
    arrays = {
        "w1": rng.standard_normal((width, 3, 3, 3)),
        "scale": rng.uniform(0.2, 2, width),
        "shift": rng.standard_normal(width),
        "mean": rng.standard_normal(width),
        "variance": rng.uniform(0.5, 2, width),
        "w2": rng.standard_normal((5, width, 3, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"], "norm"),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Conv", ["c", "w2"], ["d"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"], "pool"),
    ]
    return _model(nodes, arrays, [2, 3, 8, 8], [2, 5, 1, 1])


def attention(seed: int = 0, heads: int = 4, width: int = 6) -> Model:
    """One self-attention with ``heads`` of ``width`` on 10 features, and a residual sum."""
    rng = np.random.default_rng(seed)
    inner = heads * width
    arrays = {name: rng.standard_normal((10, inner)) / 3 for name in ("wq", "wk", "wv")}
    arrays["wo"] = rng.standard_normal((inner, 10)) / 3
    nodes = []
    for name in "qkv":
        order = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}1"], name),
            helper.make_node("Reshape", [f"{name}1", "split"], [f"{name}2"], f"{name}_split"),
            helper.make_node("Transpose", [f"{name}2"], [f"{name}3"], f"{name}_turn", perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["q3", "k3"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["weights"], "softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "v3"], ["mixed"], "mix"),
        helper.make_node("Transpose", ["mixed"], ["turned"], "turn", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "merge"], ["merged"], "merge"),
        helper.make_node("MatMul", ["merged", "wo"], ["out"], "output"),
        helper.make_node("Add", ["out", "x"], ["y"], "residual"),
    ]
    shapes = {"split": np.array([0, 0, heads, width]), "merge": np.array([0, 0, inner])}
    return _model(nodes, arrays, [2, 7, 10], [2, 7, 10], shapes)


def _model(
    nodes: list[onnx.NodeProto],
    arrays: dict[str, np.ndarray],
    into: list[int],
    out: list[int],
    integers: dict[str, np.ndarray] | None = None,
) -> Model:
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    weights += [numpy_helper.from_array(a.astype(np.int64), n) for n, a in (integers or {}).items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, into)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return from_proto(model)
