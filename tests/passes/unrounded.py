"""A network with the weights that its quantized form decodes: float arithmetic on the original's nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.helper import make_tensor_value_info

from intaglio.graph.model import Model

FLOAT = onnx.TensorProto.FLOAT
RAW = "/raw"
"""What an output is called before it is rounded."""


@dataclass(frozen=True)
class Scope:
    """A graph, or a body, with all constants that it sees."""

    graph: onnx.GraphProto
    weights: Mapping[str, np.ndarray]


def scopes(graph: onnx.GraphProto, known: Mapping[str, np.ndarray], path: str = "") -> Iterator[tuple[str, Scope]]:
    weights = {**known, **{t.name: numpy_helper.to_array(t) for t in graph.initializer}}
    yield path, Scope(graph, weights)
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from scopes(a.g, weights, f"{path}/{node.output[0].removesuffix(RAW)}/{a.name}")


def between(graph: onnx.GraphProto, start: str, end: str) -> list[onnx.NodeProto]:
    """The nodes that make ``end`` of ``start`` and of constants."""
    makers = {o: node for node in graph.node for o in node.output}
    needed, todo = set(), [end]
    while todo:
        name = todo.pop()
        if name != start and name in makers and name not in needed:
            needed.add(name)
            todo.extend(makers[name].input)
    return [node for node in graph.node if needed & {*node.output}]


def product(model: Model, scope: Scope, node: onnx.NodeProto, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """What rows are multiplied by between a node's input and its output, and what is added: by a unit matrix and zeros."""
    start, end = node.input[0], node.output[0]
    graph = helper.make_graph(
        between(scope.graph, start, end),
        "product",
        [make_tensor_value_info(start, FLOAT, None)],
        [make_tensor_value_info(end, FLOAT, None)],
        [numpy_helper.from_array(w, n) for n, w in scope.weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    unit = np.eye(rows, dtype=np.float32)
    once, never = (session.run(None, {start: x if node.op_type == "Gemm" else x[None]})[0] for x in (unit, 0 * unit))
    return (once - never).reshape(rows, -1), never.reshape(rows, -1)[0]


def with_decoded(original: Model, result: Model) -> Model:
    """The original, its matrices those that the result multiplies by, its vectors those of the result. Each is read once."""
    changed, made = original.copy(), dict(scopes(result.graph, result.weights))
    changed.weights.update({n: w for n, w in result.weights.items() if n in original.weights and w.ndim == 1})
    for path, scope in scopes(original.graph, original.weights):
        for node in scope.graph.node:
            weight = scope.weights.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
            if weight is not None and weight.ndim == 2:
                found = product(result, made[path], node, weight.shape[0])
                changed.weights.update(zip(node.input[1:], found, strict=False))
    return changed


def without_rounding(result: Model) -> Model:
    """The result with activations that stay floats: what is decoded is constant, what is encoded is passed on.

    A Relu that integers do by saturating is one again.
    """
    changed = result.copy()
    for _, scope in scopes(changed.graph, changed.weights):
        for node in scope.graph.node:
            encodes = node.op_type == "QuantizeLinear"
            if encodes or (node.op_type == "DequantizeLinear" and node.input[0] not in scope.weights):
                zero = scope.weights[node.input[2]]
                node.op_type = "Relu" if encodes and zero == np.iinfo(zero.dtype).min else "Identity"
                del node.input[1:], node.attribute[:]
        del scope.graph.value_info[:]
    return changed
