"""Shapes, element types and the small tensors that are known before the model runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from .errors import BadModel
from .evaluate import LARGEST, evaluate
from .model import Model
from .nodes import is_standard

SymbolValue = Callable[[str], int]
_INLINE = 64
"""Elements up to which float weights are shown to shape inference: operands such as Resize scales are tiny."""


@dataclass(frozen=True)
class Shapes:
    """What is known of each tensor by name.

    ``dims`` has every tensor whose shape could be worked out, symbolic dimensions replaced by numbers; ``dtypes`` its
    ONNX element type; ``values`` the small tensors whose content follows from shapes and constants alone.
    """

    dims: dict[str, tuple[int, ...]]
    dtypes: dict[str, int]
    values: dict[str, np.ndarray]


def symbols(model: Model) -> list[str]:
    """Names of the symbolic dimensions of the graph inputs, in order; unnamed ones get names of their own."""
    found: dict[str, None] = {}
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                found[dim.dim_param or _anonymous(value.name, axis)] = None
    return list(found)


def infer_shapes(model: Model, symbol_value: SymbolValue | int = 1) -> Shapes:
    """Work out shapes with every symbolic dimension given a number.

    ``symbol_value`` maps a symbol's name to its number, or is one number for all. The weights are not touched: shape
    inference sees their shapes, and the values of small integer ones only.

    Raises:
        BadModel: shape inference finds the graph contradictory.
    """
    number = symbol_value if callable(symbol_value) else lambda _: symbol_value
    known = {name: w for name, w in model.weights.items() if _is_operand(w)}
    proto = _structure(model, number)
    while True:
        inferred = _infer(proto)
        shapes = _collect(inferred, model)
        fresh = _evaluate_all(inferred.graph, shapes, known)
        if not fresh or all(o in shapes.dims for n in inferred.graph.node for o in n.output if o):
            return Shapes(shapes.dims, shapes.dtypes, {k: v for k, v in known.items() if k not in model.weights})
        proto = _with_constants(proto, known, fresh)


def _anonymous(name: str, axis: int) -> str:
    return f"{name}.{axis}"


def _is_operand(weight: np.ndarray) -> bool:
    if weight.dtype.kind in "iub":
        return weight.size <= LARGEST
    return weight.dtype.kind == "f" and weight.size <= _INLINE


def _structure(model: Model, number: SymbolValue) -> onnx.ModelProto:
    """The model without its weights, every named dimension a number."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    custom = {o for n in graph.node if not is_standard(n) for o in n.output}
    hints = [v for v in graph.value_info if v.name in custom]
    del graph.value_info[:]
    graph.value_info.extend(hints)
    for value in (*graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = number(dim.dim_param)
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = number(dim.dim_param or _anonymous(value.name, axis))
    for name, weight in model.weights.items():
        if _is_operand(weight):
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(weight), name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, weight.shape))
    return proto


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:
        raise BadModel("shape inference failed", why=str(error).strip()) from error


def _collect(inferred: onnx.ModelProto, model: Model) -> Shapes:
    dims: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, int] = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if not value.type.HasField("tensor_type"):
            continue
        tensor = value.type.tensor_type
        dtypes[value.name] = tensor.elem_type
        lengths = tuple([d.dim_value for d in tensor.shape.dim])
        # An unknown dimension reads as 0, an unknown rank as no dimension at all.
        if 0 in lengths and not all(d.HasField("dim_value") for d in tensor.shape.dim):
            continue
        if lengths or tensor.HasField("shape"):
            dims[value.name] = lengths
    for name, weight in model.weights.items():
        dims[name] = weight.shape
        dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    for tensor in graph.initializer:
        dims[tensor.name], dtypes[tensor.name] = tuple(tensor.dims), tensor.data_type
    return Shapes(dims, dtypes, {})


def _evaluate_all(graph: onnx.GraphProto, shapes: Shapes, known: dict[str, np.ndarray]) -> list[str]:
    """Evaluate in order what is known; add it to ``known`` and name what is new."""
    fresh: list[str] = []
    for node in graph.node:
        if not is_standard(node) or not node.output or node.output[0] in known:
            continue
        results: list[np.ndarray] | None
        if node.op_type in ("Shape", "Size"):
            results = _shape_or_size(node, shapes.dims.get(node.input[0]))
        elif all(not i or i in known for i in node.input):
            results = evaluate(node, [known[i] if i else None for i in node.input])
        else:
            continue
        for name, value in zip(node.output, results or (), strict=False):
            if name:
                known[name] = value
                fresh.append(name)
    return fresh


def _shape_or_size(node: onnx.NodeProto, dims: tuple[int, ...] | None) -> list[np.ndarray] | None:
    if dims is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(dims, dtype=np.int64), dtype=np.int64)]
    bounds = {a.name: a.i for a in node.attribute}
    return [np.array(dims[slice(bounds.get("start", 0), bounds.get("end"))], dtype=np.int64)]


def _with_constants(proto: onnx.ModelProto, known: dict[str, np.ndarray], fresh: list[str]) -> onnx.ModelProto:
    """The structure with evaluated nodes replaced by their values, for another round of inference."""
    gone = set(fresh)
    keep = [n for n in proto.graph.node if not (n.output and n.output[0] in gone)]
    del proto.graph.node[:]
    proto.graph.node.extend(keep)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.ascontiguousarray(known[n]).reshape(known[n].shape), n) for n in fresh
    )
    return proto
