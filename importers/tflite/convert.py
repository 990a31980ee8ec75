"""A TFLite file as an ONNX model: integers become QuantizeLinear and DequantizeLinear, axes stand as ONNX has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...graph.errors import BadModel
from ...graph.io.load import from_proto
from ...graph.model import Model
from ..base import Source
from .graph import Graph, Order, Unread, plain
from .operators import TABLE
from .parse import File, Op, Tensor

_OPSET, _WIDE_OPSET, _IR = 20, 21, 10
"""From 21 on there are integers of 16 bits with scales, but ONNX Runtime 1.31 moves Transpose nodes into errors there."""
_BATCH = "N"


@dataclass(frozen=True)
class Made:
    """``integer`` files round what they compute; ``dynamic`` ones have integer weights beside floats."""

    model: Model
    integer: bool
    dynamic: bool
    notes: tuple[str, ...]


def model_of(file: File, source: Source) -> Made:
    """Raises BadModel with all operators that are not read, by name."""
    inputs = [file.tensors[k] for k in file.inputs.values()]
    graph = Graph(file, free=bool(inputs) and all(tensor.free for tensor in inputs))
    ends = [_input(name, number, file, graph) for name, number in file.inputs.items()]
    wrong = [f"{op.code}: {why}" for op in file.ops if (why := _read(op, graph))]
    if wrong:
        told = "; ".join(dict.fromkeys(wrong))
        raise BadModel(f"{source.text} holds what is not read", why=told, fix="convert it to ONNX by other means")
    outputs = [_output(name, number, file, graph) for name, number in file.outputs.items()]
    weights = [numpy_helper.from_array(value, name) for name, value in graph.weights.items()]
    made = helper.make_graph(graph.nodes, "tflite", ends, outputs, weights)
    proto = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _opset(file))], ir_version=_IR, producer_name="intaglio"
    )
    try:
        model = from_proto(proto, shapes=source.shapes)
    except BadModel as error:
        raise BadModel(f"{source.text} is not a usable TFLite file", why=error.why or error.what) from error
    return Made(model, _rounds(file), _is_dynamic(file), _notes(file))


def _opset(file: File) -> int:
    wide = any(t.scales is not None and t.dtype.itemsize == 2 and t.dtype.kind != "f" for t in file.tensors)
    return _WIDE_OPSET if wide else _OPSET


def _read(op: Op, graph: Graph) -> str:
    """Read an operator; gives why it cannot be."""
    function = TABLE.get(op.code)
    why = "there is no reading of it"
    if function is not None:
        try:
            function(op, graph)
            return ""
        except Unread as unread:
            why = str(unread)
        except (IndexError, ValueError, KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
            why = f"its operands do not fit ({error})"
    for number in op.outputs:  # so that all that follows can be looked at
        graph.give(number, graph.fresh("unread"))
    return why


def _order(name: str, tensor: Tensor, file: File) -> Order:
    """Axes of an end as the model had them that the file was made of, else as they are."""
    told = file.orders.get(name)
    return plain(len(tensor.shape)) if told is None else tuple(int(k) for k in np.argsort(told))


def _input(name: str, number: int, file: File, graph: Graph) -> onnx.ValueInfoProto:
    tensor = file.tensors[number]
    order = _order(name, tensor, file)
    graph.take(number, name, order)
    lengths: list[int | str] = [tensor.shape[axis] for axis in order]
    if graph.free and order[:1] == (0,):
        lengths[0] = _BATCH
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), lengths)


def _output(name: str, number: int, file: File, graph: Graph) -> onnx.ValueInfoProto:
    tensor = file.tensors[number]
    order = _order(name, tensor, file)
    graph.nodes.append(helper.make_node("Identity", [graph.end(number, order)], [name], name))
    lengths: list[int | str] = [tensor.shape[axis] for axis in order]
    if graph.free and order[:1] == (0,) and lengths[0] == 1:
        lengths[0] = _BATCH
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), lengths)


def _rounds(file: File) -> bool:
    return any(t.scales is not None and t.data is None for t in file.tensors)


def _is_dynamic(file: File) -> bool:
    """Whether some operator multiplies floats by integers, for which it rounds the floats while it runs."""
    for op in file.ops:
        kinds = {file.tensors[i].dtype.kind for i in op.inputs if i >= 0 and file.tensors[i].is_float}
        if kinds == {"f", "i"}:
            return True
    return False


def _notes(file: File) -> tuple[str, ...]:
    if not _is_dynamic(file):
        return ()
    return ("integer weights beside floats: LiteRT rounds the floats while it runs, this model does not",)
