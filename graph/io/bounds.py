"""Keep what a file asks for within bounds: lengths of axes, text, and functions that call functions."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx

from ..errors import BadModel
from ..nodes import all_nodes
from .schemas import MOST_AXES, MOST_NUMBERS

_DAMAGED = "the file is damaged; copy or export it again"
_LONGEST = 2**31 - 1
MOST_NODES = 200_000
"""Nodes that a graph may have once its functions are written out, beyond those that the file holds."""
MOST_CALLS = 64
"""Functions that may call one another in a row."""

_Key = tuple[str, str, str]


def check_texts(what: str, texts: Iterable[str | bytes]) -> None:
    """Raises BadModel where protobuf gives bytes: for text that is no UTF-8."""
    for text in texts:
        if isinstance(text, bytes):
            raise BadModel(f"the name of {what} {text!r} is no text", fix=_DAMAGED)


def check_model_texts(proto: onnx.ModelProto) -> None:
    check_texts("metadata entry", (t for p in proto.metadata_props for t in (p.key, p.value)))
    check_texts("operator set", (o.domain for o in proto.opset_import))
    check_texts("producer", (proto.producer_name, proto.producer_version, proto.domain))
    check_texts("graph", (proto.graph.name,))
    check_texts("quantization annotation", (q.tensor_name for q in proto.graph.quantization_annotation))


def check_dims(name: str, dims: Iterable[int]) -> None:
    """Raises BadModel for a shape that no tensor can have."""
    lengths = list(dims)
    what = f"tensor {name!r} cannot be used"
    if len(lengths) > MOST_AXES:
        raise BadModel(what, why=f"it has {len(lengths)} axes: {MOST_AXES} are the most", fix=_DAMAGED)
    if any(d < 0 for d in lengths):
        raise BadModel(what, why=f"its shape {lengths} has a negative dimension", fix=_DAMAGED)
    numbers = math.prod(max(d, 1) for d in lengths)
    if numbers > MOST_NUMBERS:
        why = f"its shape {lengths} needs {numbers} bytes or more, which no machine holds"
        raise BadModel(what, why=why, fix=_DAMAGED)


def check_values(graph: onnx.GraphProto) -> None:
    """Shapes that a graph states for its inputs, outputs and what is between; -1 is one that is not known."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if isinstance(value.name, bytes):
            check_texts("tensor", (value.name,))
        dims = value.type.tensor_type.shape.dim
        for dim in dims:
            if dim.dim_value == -1:
                dim.ClearField("dim_value")
            if not 0 <= dim.dim_value <= _LONGEST or isinstance(dim.dim_param, bytes):
                raise BadModel(
                    f"the stated shape of tensor {value.name!r} is wrong",
                    why=f"a dimension is {dim.dim_value or dim.dim_param!r}",
                    fix="export the model again",
                )
        if len(dims):
            check_dims(value.name, [d.dim_value for d in dims])
    for value in graph.input:
        if value.type.HasField("tensor_type") and not _is_known(value.type.tensor_type.elem_type):
            why = f"it says element type {value.type.tensor_type.elem_type}"
            raise BadModel(f"graph input {value.name!r} has no usable type", why=why, fix="export the model again")


def _is_known(kind: int) -> bool:
    return kind != onnx.TensorProto.UNDEFINED and kind in onnx.TensorProto.DataType.values()


def check_functions(proto: onnx.ModelProto) -> None:
    """Raises BadModel where functions call themselves, or write out to more nodes than can be worked with."""
    functions: dict[_Key, onnx.FunctionProto] = {}
    for function in proto.functions:
        check_texts("function", (function.name, function.domain, *function.input, *function.output))
        if functions.setdefault(_key(function, function.name), function) is not function:
            raise BadModel(f"there are two functions {function.name!r}", fix=_DAMAGED)
    if not functions:
        return
    sizes: dict[_Key, int] = {}
    for key in functions:
        _measure(key, functions, sizes, ())
    called = (sizes.get(_key(n, n.op_type), 0) for n in all_nodes(proto.graph))
    total = sum(called)
    if total > MOST_NODES:
        raise BadModel(
            "the functions of the model cannot be written out",
            why=f"they call one another so often that they stand for {total} nodes: {MOST_NODES} are the most",
            fix="export the model without functions",
        )


def _measure(
    key: _Key, functions: dict[_Key, onnx.FunctionProto], sizes: dict[_Key, int], callers: tuple[_Key, ...]
) -> int:
    """How many nodes a function stands for."""
    if key in sizes:
        return sizes[key]
    what = f"function {key[1]!r} cannot be used"
    if key in callers:
        raise BadModel(what, why="it calls itself", fix="export the model without functions")
    if len(callers) >= MOST_CALLS:
        raise BadModel(what, why=f"more than {MOST_CALLS} functions call one another in a row", fix=_DAMAGED)
    size = 0
    for node in all_nodes(functions[key]):
        inner = _key(node, node.op_type)
        size += 1 + (_measure(inner, functions, sizes, (*callers, key)) if inner in functions else 0)
    sizes[key] = size
    return size


def _key(holder: onnx.NodeProto | onnx.FunctionProto, name: str) -> _Key:
    return holder.domain, name, holder.overload
