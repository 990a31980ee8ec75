"""The bodies of If, Loop and Scan as models of their own, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import onnx
from onnx import helper, numpy_helper

from .errors import BadModel
from .index import index_of
from .io.canonicalize import canonicalize
from .io.save import to_proto
from .layers import Layers
from .model import Model
from .nodes import (
    alive,
    attribute,
    captured_by,
    display_name,
    formal_dims,
    refill,
    rename_tensors,
    subgraphs,
    tensor_names,
)
from .readings import Readings, readings

ENDS = {
    "graph input": ("tensor", "comes from outside the body"),
    "graph output": ("tensor", "is handed out of the body"),
}
"""What is true of the ends of a body that is looked at as a graph."""
_ENDS = re.compile(r'(graph (?:input|output)) ("[^"]*") has the shape that callers (?:send|expect)')


@dataclass(frozen=True)
class Body:
    """One body: the first ``output`` of the node that holds it, and which of its bodies it is."""

    name: str
    output: str
    number: int
    model: Model


def bodies(model: Model) -> list[Body]:
    """The bodies of a graph that hold layers, of nodes that an output depends on; none of a graph that contradicts itself."""
    if not any(one.kind == "inside" for one in Layers(model).unused):
        return []
    try:
        sizes = _Sizes(model, readings(model))
    except BadModel:
        return []
    readers = Counter(name for node in model.graph.node for graph in subgraphs(node) for name in captured_by(graph))
    alone = {name for name, count in readers.items() if count == 1 == index_of(model).uses[name]}
    found = []
    needed, _ = alive(model.graph.node, index_of(model).outputs)
    for node in compress(model.graph.node, needed):
        labels = [a.name for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        for number, (label, graph) in enumerate(zip(labels, subgraphs(node), strict=False)):
            body = _opened(model, node, graph, sizes, alone)
            if Layers(body).found:
                found.append(Body(f"{display_name(node)}/{label}", node.output[0], number, body))
    return found


def told_inside(reason: str) -> str:
    """A reason that speaks of a body's ends as those of a graph, as it is true of a body."""
    return _ENDS.sub(lambda found: " ".join((ENDS[found[1]][0], found[2], ENDS[found[1]][1])), reason)


def all_bodies(model: Model, inside: str = "") -> Iterator[Body]:
    """The same, and the bodies in bodies, whose names start with those of the bodies around them."""
    for body in bodies(model):
        name = f"{inside}{body.name}"
        yield replace(body, name=name)
        yield from all_bodies(body.model, f"{name}/")


def _opened(model: Model, node: onnx.NodeProto, graph: onnx.GraphProto, sizes: _Sizes, alone: set[str]) -> Model:
    """A body as a model: what it captures and is handed are its inputs; weights that it ``alone`` reads are its own."""
    body = onnx.GraphProto()
    body.CopyFrom(graph)
    weights = {t.name: numpy_helper.to_array(t) for t in body.initializer}
    del body.initializer[:]
    for name in sorted(captured_by(graph)):
        value = model.weights.get(name)
        if value is not None and (name in alone or value.ndim < 2):
            weights[name] = value
        else:
            body.input.append(sizes.port(name, sizes.dims(name)))
    proto = onnx.ModelProto(ir_version=model.proto.ir_version, graph=body)
    proto.opset_import.extend(model.proto.opset_import)
    proto.functions.extend(model.proto.functions)
    opened = Model(proto, weights)
    _declare_formal(opened, node, sizes)
    canonicalize(opened)
    return opened


class _Sizes:
    """Declared shapes of a model's tensors; lengths that vary alike have one symbol."""

    def __init__(self, model: Model, read: Readings) -> None:
        self.weights, self.read, self.varying = model.weights, read, read.varying()
        self._symbols: dict[tuple[int, ...], str] = {}

    def dims(self, name: str) -> list[int | str] | None:
        known = self.read.first.dims.get(name)
        if known is None or name not in self.varying:
            return None
        return [
            self._symbol(name, a) if varies else n
            for a, (n, varies) in enumerate(zip(known, self.varying[name], strict=True))
        ]

    def _symbol(self, name: str, axis: int) -> str:
        seen = tuple(s.dims[name][axis] for s in (self.read.first, *self.read.others) if name in s.dims)
        return self._symbols.setdefault(seen, f"length{len(self._symbols)}")

    def port(self, name: str, dims: Sequence[int | str] | None, kind: int = 0) -> onnx.ValueInfoProto:
        kind = kind or self.read.first.dtypes.get(name, onnx.TensorProto.FLOAT)
        return helper.make_tensor_value_info(name, kind, dims)


def _declare_formal(body: Model, node: onnx.NodeProto, sizes: _Sizes) -> None:
    """Say what shapes a Loop or a Scan hands to its body, where the body does not; a state may change its lengths."""
    given = formal_dims(node, [sizes.dims(name) if name else None for name in node.input])
    scanned = int(attribute(node, "num_scan_inputs", 0)) if node.op_type == "Scan" else 0
    first = -1 if node.op_type == "Loop" else 0 if node.op_type == "Scan" else 1
    formal = list(body.graph.input)[: len(given) if first < 1 else 0]
    unsaid = [
        (k, value, dims)
        for k, (value, dims) in enumerate(zip(formal, given, strict=False))
        if dims is not None and not value.type.tensor_type.HasField("shape")
    ]
    for k, value, dims in unsaid:
        kind = value.type.tensor_type.elem_type or sizes.read.first.dtypes.get(node.input[k], 0)
        value.CopyFrom(sizes.port(value.name, dims, kind))
    try:
        known = index_of(body).shapes.dims
    except BadModel:
        known = {}
    for k, value, dims in unsaid:
        if not (2 if node.op_type == "Loop" else 0) <= k < len(given) - scanned:
            continue
        before, later = known.get(value.name, ()), known.get(body.graph.output[k + first].name, ())
        same = len(before) == len(later) == len(dims)
        free = [n if same and before[a] == later[a] else f"{value.name}.{a}" for a, n in enumerate(dims)]
        value.CopyFrom(sizes.port(value.name, free, value.type.tensor_type.elem_type))


def put_back(model: Model, found: Sequence[Body], made: Mapping[str, Model]) -> Model:
    """A copy of the model with these bodies in the place of those that it had."""
    if not made:
        return model
    changed = model.copy()
    outer, nodes = {*model.weights, *index_of(model).place, *index_of(model).inputs}, index_of(changed).makers
    for body in found:
        if body.name in made:
            graph = list(subgraphs(nodes[body.output]))[body.number]
            _replace(graph, body.model, made[body.name], outer)
            _declare(changed.proto, made[body.name].proto)
    before, after = index_of(model).uses, index_of(changed).uses
    for name in [n for n in changed.weights if before[n] and not after[n]]:
        del changed.weights[name]
    return changed


def _replace(graph: onnx.GraphProto, before: Model, result: Model, outer: set[str]) -> None:
    """Make a body what a pass made of it; its new names are nobody's around it."""
    made = to_proto(result).graph
    inputs = {v.name for v in made.input}
    same = {n for n, w in result.weights.items() if n in outer and w is before.weights.get(n)}
    own = {*tensor_names(graph)} - outer
    names: dict[str, str] = {}
    taken = {*outer, *own, *tensor_names(made)}
    for name in dict.fromkeys(tensor_names(made)):
        if name in outer and name not in inputs and name not in same:
            fresh, serial = name, 0
            while fresh in taken:
                serial += 1
                fresh = f"{name}_{serial}"
            names[name] = fresh
            taken.add(fresh)
    refill(made.initializer, [t for t in made.initializer if t.name not in same])
    rename_tensors(made, lambda name: names.get(name, name))
    for mine, new in ((graph.node, made.node), (graph.initializer, made.initializer)):
        refill(mine, new)
    refill(graph.value_info, made.value_info)
    refill(graph.sparse_initializer, made.sparse_initializer)


def _declare(proto: onnx.ModelProto, inner: onnx.ModelProto) -> None:
    """The operator sets and functions that a body needs."""
    for field_name, key in (("opset_import", lambda o: o.domain), ("functions", lambda f: (f.domain, f.name))):
        there = {key(one) for one in getattr(proto, field_name)}
        getattr(proto, field_name).extend(one for one in getattr(inner, field_name) if key(one) not in there)
    proto.ir_version = max(proto.ir_version, inner.ir_version)
