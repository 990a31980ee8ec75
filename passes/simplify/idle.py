"""Take out nodes that do nothing, or whose work the next one undoes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from ...graph.evaluate import operand
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import as_ints, attribute, is_standard, replace_nodes, set_attribute
from ...graph.readings import Readings, readings


def drop_idle(model: Model) -> int:
    """In place; gives how many nodes went."""
    went = 0
    while found := _round(model):
        went += found
    return went


def _round(model: Model) -> int:
    work = _Idle(model)
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in work.index.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if is_standard(node) and node.input and work.fixed.isdisjoint(node.output) and work.is_idle(node):
            renamed[node.output[0]] = work.source(node)
        else:
            kept.append(node)
    if renamed:
        replace_nodes(model.graph, kept)
    return len(renamed)


class _Idle:
    """Which nodes hand on what they, or the nodes before them, were given."""

    def __init__(self, model: Model) -> None:
        self.model, self.index, self.read = model, index_of(model), readings(model)
        self.makers, self.fixed = self.index.makers, self.index.captured.union(self.index.outputs)
        self._sources: dict[str, str] = {}

    def source(self, node: onnx.NodeProto) -> str:
        return self._sources.get(node.output[0], node.input[0])

    def is_idle(self, node: onnx.NodeProto) -> bool:
        known = _RULES.get(node.op_type)
        return known is not None and known(self, node)

    def same_shape(self, a: str, b: str) -> bool:
        """At every size that was read."""
        return _shape_of(self.read, a) is not None and all(
            one.dims.get(a) == one.dims.get(b) and a in one.dims for one in (self.read.first, *self.read.others)
        )

    def constant(self, node: onnx.NodeProto, position: int, name: str) -> list[int] | None:
        values = [self.model.weights.get(i) if i else None for i in node.input]
        found = operand(node, values, position, name)
        return None if found is None else as_ints(found)

    def transpose(self, node: onnx.NodeProto) -> bool:
        """Also makes one of two in a row."""
        before, own = self.makers.get(node.input[0]), attribute(node, "perm")
        if own is None:
            return False
        if before is not None and before.op_type == "Transpose" and is_standard(before):
            first = attribute(before, "perm")
            if first is not None and len(first) == len(own):
                own = [first[axis] for axis in own]
                set_attribute(node, "perm", own)
                node.input[0] = before.input[0]
        return bool(own == sorted(own))

    def cast(self, node: onnx.NodeProto) -> bool:
        """To the type that it has, or back from one that holds all numbers of the first."""
        kinds, to = self.read.first.dtypes, attribute(node, "to", 0)
        if kinds.get(node.input[0]) == to:
            return True
        before = self.makers.get(node.input[0])
        if before is None or before.op_type != "Cast" or kinds.get(before.input[0]) != to:
            return False
        narrow, wide = (onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in (to, attribute(before, "to", 0)))
        self._sources[node.output[0]] = before.input[0]
        return {narrow.kind, wide.kind} <= set("fiub") and bool(np.can_cast(narrow, wide, "safe"))

    def slice(self, node: onnx.NodeProto) -> bool:
        steps = self.constant(node, 4, "steps") if len(node.input) > 4 else [1]
        return steps is not None and set(steps) == {1} and self.same_shape(node.input[0], node.output[0])

    def pad(self, node: onnx.NodeProto) -> bool:
        pads = self.constant(node, 1, "pads")
        return pads is not None and not any(pads)

    def concat(self, node: onnx.NodeProto) -> bool:
        return len(node.input) == 1

    def keeps_shape(self, node: onnx.NodeProto) -> bool:
        return self.same_shape(node.input[0], node.output[0])

    def expand(self, node: onnx.NodeProto) -> bool:
        return self.keeps_shape(node)

    def reshape(self, node: onnx.NodeProto) -> bool:
        """Also reads what the Reshape before it read, where its own lengths do not speak of what that made."""
        before, lengths = self.makers.get(node.input[0]), self.constant(node, 1, "shape")
        shaped = before is not None and is_standard(before) and _RULES.get(before.op_type) in _SHAPED
        if before is not None and shaped and lengths is not None and 0 not in lengths:
            node.input[0] = before.input[0]
        return self.same_shape(node.input[0], node.output[0])


def _shape_of(read: Readings, name: str) -> tuple[int, ...] | None:
    return read.first.dims.get(name)


_RULES: Mapping[str, Callable[[_Idle, onnx.NodeProto], bool]] = {
    "Cast": _Idle.cast,
    "Concat": _Idle.concat,
    "Expand": _Idle.expand,
    "Flatten": _Idle.keeps_shape,
    "Pad": _Idle.pad,
    "Reshape": _Idle.reshape,
    "Slice": _Idle.slice,
    "Squeeze": _Idle.keeps_shape,
    "Transpose": _Idle.transpose,
    "Unsqueeze": _Idle.keeps_shape,
}
_SHAPED = (_Idle.reshape, _Idle.keeps_shape)
"""Of operators that hand on numbers in their order, whatever the shape."""
