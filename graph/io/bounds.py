"""Keep what a file asks for within bounds: lengths of axes, text, and functions that call functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import onnx

from ..dtypes import is_known
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
        kind = value.type.tensor_type.elem_type
        if value.type.HasField("tensor_type") and not (kind and is_known(kind)):
            why = f"it says element type {kind}"
            raise BadModel(f"graph input {value.name!r} has no usable type", why=why, fix="export the model again")


def check_functions(proto: onnx.ModelProto) -> None:
    """Raises BadModel where functions call themselves, or write out to more nodes than can be worked with."""
    functions: dict[_Key, onnx.FunctionProto] = {}
    for function in proto.functions:
        check_texts("function", (function.name, function.domain, *function.input, *function.output))
        if functions.setdefault(_key(function, function.name), function) is not function:
            raise BadModel(f"there are two functions {function.name!r}", fix=_DAMAGED)
    if not functions:
        return
    calls = {key: [_key(n, n.op_type) for n in all_nodes(function)] for key, function in functions.items()}
    try:
        order = list(TopologicalSorter({key: functions.keys() & inner for key, inner in calls.items()}).static_order())
    except CycleError as error:
        what = f"function {error.args[1][0][1]!r} cannot be used"
        raise BadModel(what, why="it calls itself", fix="export the model without functions") from error
    sizes: dict[_Key, int] = {}
    depths: dict[_Key, int] = {}
    for key in order:
        sizes[key] = sum(1 + sizes.get(inner, 0) for inner in calls[key])
        depths[key] = 1 + max((depths.get(inner, 0) for inner in calls[key]), default=0)
        if depths[key] > MOST_CALLS:
            why = f"more than {MOST_CALLS} functions call one another in a row"
            raise BadModel(f"function {key[1]!r} cannot be used", why=why, fix=_DAMAGED)
    total = sum(sizes.get(_key(n, n.op_type), 0) for n in all_nodes(proto.graph))
    if total > MOST_NODES:
        raise BadModel(
            "the functions of the model cannot be written out",
            why=f"they call one another so often that they stand for {total} nodes: {MOST_NODES} are the most",
            fix="export the model without functions",
        )


def _key(holder: onnx.NodeProto | onnx.FunctionProto, name: str) -> _Key:
    return holder.domain, name, holder.overload
