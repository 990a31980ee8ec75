"""Convert a model to a newer operator set without touching its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import count

import onnx
from onnx import helper, numpy_helper, version_converter

from ..apart import apart
from ..bits import DOMAIN
from ..errors import BadModel
from ..model import Model
from ..nodes import (
    all_nodes,
    attribute,
    declare_weights,
    display_name,
    is_standard,
    refill,
    rename_tensors,
    set_attribute,
    subgraphs,
    tensor_names,
)
from ..traits import DEFAULT_DOMAINS, operator
from .canonicalize import canonicalize
from .check import check_graph, check_weights
from .schemas import schema_of

OLDEST = 13
"""Operator set that loading raises older models to."""

# The converter reads operands such as axes and scales, which are this small; larger weights it only needs to declare.
_OPERAND_BYTES = 4096
# Resize before operator set 11, and Upsample: a corner-aligned grid without a half-pixel shift.
_RESIZE_CHANGED = 11
# How names start that the converter makes up, each once in a graph but again in its bodies; those in a file step aside.
_MADE_UP, _ASIDE = "_v_", "aside/"


def raise_opset(model: Model, version: int) -> Model:
    """The model with its default operator set raised to ``version``; itself where it is that new already.

    Raises:
        BadModel: the converter cannot bring an operator that far.
    """
    if model.opset >= version:
        return model
    what = f"operator set {model.opset} cannot be raised to {version}"
    obstacle = next(_obstacles(model, version), None)
    if obstacle:
        raise BadModel(what, why=obstacle)
    try:
        converted = _converted(model, version)
    except BadModel as error:
        raise BadModel(what, why=" ".join((error.why or error.what).split())[:300]) from error
    raised = _merge(model, converted.graph, version)
    try:
        check_graph(raised)
    except BadModel as error:
        raise BadModel(what, why=f"the converter broke the graph: {error.what}") from error
    notes = [*raised.notes, f"operator set raised from {model.opset} to {version}"]
    canonicalize(raised)
    raised.notes = notes  # what the converter added and tidying took away again is nobody's concern
    return raised


def lower_opset(model: Model, version: int) -> Model:
    """The model as it stands, in an older operator set that has all its nodes. Whether they mean the same there is for the
    caller to see.

    Raises:
        BadModel: there is a node that it does not have.
    """
    what = f"operator set {model.opset} cannot be lowered to {version}"
    unknown = (n for n in all_nodes(model.graph) if is_standard(n) and schema_of(n.op_type, version) is None)
    if node := next(unknown, None):
        raise BadModel(what, why=f"it does not have {node.op_type}, which {display_name(node)!r} is")
    lowered = model.copy()
    _declare(lowered, version)
    for node in filter(is_standard, all_nodes(lowered.graph)):
        refill(node.attribute, [one for one in node.attribute if not _says_nothing(node, one, model.opset, version)])
    try:
        check_graph(lowered)
        check_weights(lowered)
        apart("the type check", _checked, structure(lowered))
    except BadModel as error:
        raise BadModel(what, why=" ".join((error.why or error.what).split())[:300]) from error
    return lowered


def _says_nothing(node: onnx.NodeProto, one: onnx.AttributeProto, newer: int, older: int) -> bool:
    """Whether an attribute that the older operator does not have says what it is without."""
    new, old = schema_of(node.op_type, newer), schema_of(node.op_type, older)
    if new is None or old is None or one.name in old.attributes or one.name not in new.attributes:
        return False
    default = new.attributes[one.name].default_value
    return bool(default.type) and helper.get_attribute_value(default) == helper.get_attribute_value(one)


def _declare(model: Model, version: int) -> None:
    """Say that the model is of an operator set, and so are definitions of operators on bits.

    Those mean the same in every set from 13 on; onnx wants theirs to be the model's.
    """
    of_bits = [f.opset_import for f in model.proto.functions if f.domain == DOMAIN]
    for imports in (model.proto.opset_import, *of_bits):
        for opset in imports:
            if opset.domain in DEFAULT_DOMAINS:
                opset.version = version


def _converted(model: Model, version: int) -> onnx.ModelProto:
    """What the converter makes of the model; the names that it added start with the version, each used once."""
    before = structure(model)
    rename_tensors(before.graph, lambda name: _ASIDE + name if name.startswith(_MADE_UP) else name)
    names = set(tensor_names(before.graph))
    converted = apart("the converter", lambda one: _checked(version_converter.convert_version(one, version)), before)
    numbers = (n for n in map(f"opset{version}_{{}}".format, count()) if n not in names)
    _rename_new(converted.graph, names, numbers, {})
    rename_tensors(
        converted.graph, lambda name: name.removeprefix(_ASIDE) if name.startswith(_ASIDE + _MADE_UP) else name
    )
    return converted


def _checked(converted: onnx.ModelProto) -> onnx.ModelProto:
    onnx.shape_inference.infer_shapes(converted, check_type=True)
    return converted


def structure(model: Model) -> onnx.ModelProto:
    """The model with large weights declared as inputs, for the converter."""
    graph = onnx.GraphProto(name=model.graph.name or "graph")
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    declare_weights(graph, model.weights, lambda w: w.nbytes <= _OPERAND_BYTES and w.dtype.kind in "biuf")
    for sparse in model.graph.sparse_initializer:
        kind = sparse.values.data_type
        graph.input.append(helper.make_tensor_value_info(sparse.values.name, kind, list(sparse.dims)))
    ir = max(model.proto.ir_version, 4)  # initializers need not be inputs from version 4 on
    return helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=ir)


def _merge(model: Model, converted: onnx.GraphProto, version: int) -> Model:
    """The original with the converted nodes; everything the converter does not carry over stays as it was."""
    raised = model.copy()
    graph = raised.graph
    details = {n.output[0]: n for n in model.graph.node if n.output}
    refill(graph.node, converted.node)
    for node in graph.node:
        old = details.get(node.output[0]) if node.output else None
        if old is not None and old.op_type == node.op_type:
            node.metadata_props.extend(old.metadata_props)
            node.overload = old.overload
    if model.opset < _RESIZE_CHANGED <= version:
        for node in all_nodes(graph):
            if node.op_type == "Resize" and is_standard(node):
                set_attribute(node, "coordinate_transformation_mode", "asymmetric")
                set_attribute(node, "nearest_mode", "floor")
                node.input[1] = ""  # the region of interest, which did not exist
    for tensor in converted.initializer:
        if tensor.name not in raised.weights:
            array = numpy_helper.to_array(tensor).copy()
            array.flags.writeable = False
            raised.weights[tensor.name] = array
    _declare(raised, version)
    least = helper.find_min_ir_version_for([helper.make_opsetid("", version)])
    raised.proto.ir_version = max(raised.proto.ir_version, least)
    return raised


def _rename_new(graph: onnx.GraphProto, old: Set[str], numbers: Iterator[str], around: Mapping[str, str]) -> None:
    """Give the tensors that are not ``old`` new names; ``around`` has those of the graphs that this one lies in."""
    made = [name for node in graph.node for name in node.output if name and name not in old]
    fresh = {**around, **dict(zip(made, numbers, strict=False))}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [fresh.get(name, name) for name in names]
        for body in subgraphs(node):
            _rename_new(body, old, numbers, fresh)


def _obstacles(model: Model, version: int) -> Iterator[str]:
    """Nodes that the converter would change the meaning of, and why."""
    for node in all_nodes(model.graph):
        if not is_standard(node):
            continue
        if schema_of(node.op_type, version) and not schema_of(node.op_type, model.opset):
            yield f"the operator set has no {node.op_type}, which {display_name(node)!r} is"
        if model.opset < operator(node).changed <= version:
            yield f"the converter changes what {node.op_type} {display_name(node)!r} computes"
        if node.op_type == "Resize" and model.opset < _RESIZE_CHANGED <= version:
            scales = model.weights.get(node.input[1])
            nearest = attribute(node, "mode", "nearest") == "nearest"
            if nearest and (scales is None or (scales < 1).any()):
                yield f"Resize {display_name(node)!r} may shrink, with a rounding that newer ones do not have"
