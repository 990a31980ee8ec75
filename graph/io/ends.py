"""Inputs and outputs in other element types, with a Cast behind or before each."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ..model import Model
from ..nodes import rename_tensors, replace_nodes, tensor_names


def with_ends(model: Model, kinds: Mapping[str, int]) -> Model:
    """The model with these inputs and outputs in these element types, under their names; itself where there are none."""
    if not kinds:
        return model
    changed = model.copy()
    graph = changed.graph
    taken = set(tensor_names(graph)) | model.weights.keys()
    mark = "/inside"
    while any(name + mark in taken for name in kinds):
        mark += "_"
    rename_tensors(graph, lambda name: name + mark if name in kinds else name)
    casts: dict[bool, list[onnx.NodeProto]] = {True: [], False: []}
    for first, values in ((True, graph.input), (False, graph.output)):
        for value in values:
            if (name := value.name.removesuffix(mark)) in kinds:
                inside = value.type.tensor_type.elem_type
                pair = (name, value.name) if first else (value.name, name)
                to = inside if first else kinds[name]
                casts[first].append(onnx.helper.make_node("Cast", [pair[0]], [pair[1]], f"{name}/cast", to=to))
                value.name, value.type.tensor_type.elem_type = name, kinds[name]
    replace_nodes(graph, [*casts[True], *graph.node, *casts[False]])
    return changed
