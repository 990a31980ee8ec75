"""Shapes, element types and the small tensors that are known before the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx.inliner import inline_local_functions

from .apart import apart
from .bits import DOMAIN, BitOperator, bit_operator, output_shape
from .errors import BadModel
from .evaluate import LARGEST, evaluate, turns
from .foreign import ABSENT, Tensor, foreign_outputs, knows_shapes
from .model import Model
from .nodes import (
    all_graphs,
    all_nodes,
    captured_by,
    declare_weights,
    display_name,
    is_standard,
    refill,
    replace_nodes,
    subgraphs,
)
from .traits import Trait, has, has_any, operator_key

_LONG = 1 << 12
"""Free lengths from which on no window is longer."""
SymbolValue = Callable[[str], int]
"""The number that a symbolic dimension of this name stands for."""
_NOTED = 1024
"""Numbers of a vector up to which onnx may note each; with them go tensors that shapes are computed with."""
_DEFAULTS = {"STFT": ("onesided", 1)}
"""Attributes for which onnx's inference takes another default than its own schemas."""
_INLINE = 64
"""Elements up to which float weights are shown to shape inference: operands such as Resize scales are tiny.

Only scalars take part in evaluation: folding a small weight would untie it from its other uses.
"""


@dataclass(frozen=True)
class Shapes:
    """What is known of each tensor by name.

    ``dims`` has every tensor whose shape could be worked out, symbolic dimensions replaced by numbers; ``dtypes`` its
    ONNX element type; ``values`` the small tensors whose content follows from shapes and constants alone.
    """

    dims: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, int]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Found:
    """Shapes and element types while they are collected; ``short`` are tensors that would have lengths below 0."""

    dims: dict[str, tuple[int, ...]]
    dtypes: dict[str, int]
    short: set[str] = field(default_factory=set)

    def take(self, name: str, kind: onnx.TypeProto.Tensor) -> bool:
        """Whether a type tells the shape, which is noted then."""
        lengths = tuple([d.dim_value for d in kind.shape.dim])
        # An unknown dimension reads as 0, an unknown rank as no dimension at all.
        known = kind.HasField("shape") and (0 not in lengths or all(d.HasField("dim_value") for d in kind.shape.dim))
        # A window longer than what it slides over makes a length below 0.
        if known and min(lengths, default=0) < 0:
            self.short.add(name)
            return False
        if known:
            self.dims[name] = lengths
        return known


def free_dims(
    values: Iterable[onnx.ValueInfoProto],
) -> Iterator[tuple[onnx.ValueInfoProto, int, str, onnx.TensorShapeProto.Dimension]]:
    """Dimensions without a number: whose, of which axis, and the name of the symbol; unnamed ones have names of their own."""
    for value in values:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                yield value, axis, dim.dim_param or f"{value.name}.{axis}", dim


def symbols(model: Model) -> list[str]:
    """Names of the symbolic dimensions of the graph inputs, in order."""
    return list(dict.fromkeys(name for _, _, name, _ in free_dims(model.graph.input)))


def all_symbols(model: Model) -> list[str]:
    """The same, and those that only notes on other tensors have."""
    dims = (dim for v in model.graph.value_info for dim in v.type.tensor_type.shape.dim)
    return list(dict.fromkeys([*symbols(model), *(dim.dim_param for dim in dims if dim.dim_param)]))


def infer_shapes(model: Model, number: SymbolValue = lambda name: 1) -> Shapes:
    """Work out shapes with every symbolic dimension given a number, by its name. Ask ``index_of`` for them.

    The weights are not touched: shape inference sees their shapes, and the values of those that are operands.

    Raises:
        BadModel: shape inference finds the graph contradictory.
    """
    proto, sizes = _structure(model, number), tuple(map(number, symbols(model)))
    if any(size < _LONG for size in sizes) and any(map(_may_fall_short, model.graph.node)):
        cautious = onnx.ModelProto()
        cautious.CopyFrom(proto)
        deepest = _leave_out_cuts(cautious)
        if deepest:
            found, short, unknown = _bounded(model, cautious, sizes)
            if short or (unknown and deepest > 1):
                return found
    return _bounded(model, proto, sizes)[0]


def _bounded(model: Model, proto: onnx.ModelProto, sizes: tuple[int, ...]) -> tuple[Shapes, bool, bool]:
    """Shapes of a model whose structure is ``proto``; whether a length below 0 came up, and whether some are unknown.

    onnx notes a length for each number of a vector that shapes could be computed from. Of vectors as long as all tokens
    the notes take gigabytes: what reads those is inferred one by one instead, without notes.
    """
    parts = (*model.graph.input, *proto.graph.node, *proto.graph.initializer, *proto.functions)
    known = _vectors.setdefault(hash(tuple(part.SerializeToString() for part in parts)), [])
    bound = next((one for one in known if all(a <= b for a, b in zip(sizes, one.sizes, strict=True))), None)
    if bound is None:
        shapes, inferred, short, unknown = _settled(model, proto, notes=False)
        bound = _long_vectors(proto.graph, shapes, inferred, sizes)
        known.append(bound)
        if not unknown:
            return shapes, short, unknown
    long = bound.names
    replace_nodes(proto.graph, [n for n in proto.graph.node if not (long.intersection(n.input) and _takes_notes(n))])
    shapes, _, short, unknown = _settled(model, proto, notes=bound.notes)
    return shapes, short, unknown


def _settled(model: Model, proto: onnx.ModelProto, *, notes: bool) -> tuple[Shapes, onnx.ModelProto, bool, bool]:
    """Shapes, with or without notes of the numbers in vectors; what onnx makes of the graph in the end; whether a length
    below 0 came up, and whether some are unknown.
    """
    known = {name: w for name, w in model.weights.items() if is_operand(w) and (w.dtype.kind in "iub" or w.size == 1)}
    # Small floats too, such as the parts of a Resize's scales: read for shapes alone, never folded.
    read = {name: w for name, w in model.weights.items() if is_operand(w)}
    before = -1
    while True:
        inferred = _infer(proto, notes=notes)
        shapes = _collect(inferred, model)
        found = _follow(model, shapes, known, read)
        unknown = [o for n in model.graph.node for o in n.output if o and o not in shapes.dims]
        settled = not found or not unknown or len(unknown) == before
        before = len(unknown)
        if settled:
            if _take_stated(model, inferred, shapes):
                _follow(model, shapes, known, read)
            _follow_types(model, shapes)
            values = {k: v for k, v in known.items() if k not in model.weights}
            return Shapes(shapes.dims, shapes.dtypes, values), inferred, bool(shapes.short), bool(unknown)
        # What lies behind a loop or a function can only be seen by inference over the whole graph.
        for name in found:
            hint = onnx.helper.make_tensor_value_info(name, shapes.dtypes[name], shapes.dims[name])
            proto.graph.value_info.append(hint)


def is_operand(weight: np.ndarray) -> bool:
    """Whether shape inference sees the values of a weight."""
    if weight.dtype.kind in "iub":
        return weight.size <= LARGEST
    return weight.dtype.kind == "f" and weight.size <= _INLINE


def _structure(model: Model, number: SymbolValue) -> onnx.ModelProto:
    """The model without its weights, every named dimension a number."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    # Inference follows the definitions of operators on bits at great length and to no result.
    refill(proto.functions, [f for f in proto.functions if f.domain != DOMAIN])
    for outer in (graph, *proto.functions):
        for node in all_nodes(outer):
            _state_default(node)
    custom = {o for n in graph.node if _needs_hint(n) for o in n.output}
    refill(graph.value_info, [v for v in graph.value_info if v.name in custom])
    for value in graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = number(dim.dim_param)
    given = set(symbols(model))
    for value in graph.output:
        if value.name not in custom and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")  # inference takes what is stated for more than what it finds
            continue
        for dim in value.type.tensor_type.shape.dim:
            # A name that no input has says nothing, nor does one that means the length: inference has to find both.
            if dim.dim_param in given:
                dim.dim_value = number(dim.dim_param)
            elif not dim.HasField("dim_value"):
                dim.Clear()
    for _, _, symbol, dim in free_dims(graph.input):
        dim.dim_value = number(symbol)
    declare_weights(graph, model.weights, is_operand)
    return proto


def _state_default(node: onnx.NodeProto) -> None:
    name, value = _DEFAULTS.get(operator_key(node), ("", 0))
    if name and all(one.name != name for one in node.attribute):
        node.attribute.append(onnx.helper.make_attribute(name, value))


def _may_fall_short(node: onnx.NodeProto) -> bool:
    """Whether inference gives its output a length below 0 where a free one is too short."""
    return has_any(node, Trait.CONVOLVES | Trait.POOLS | Trait.FILLS) or node.op_type == "ConstantOfShape"


def _leave_out_cuts(proto: onnx.ModelProto) -> int:
    """Take out the Slices, on which onnx ends the process if their input has a length below 0.

    What they make is inferred one by one instead, where all that they read has lengths that can be. Tells in how deep
    graphs they stood: 0 for none, 1 for the main graph, 2 for bodies.
    """
    deepest = 0
    for outer in (proto.graph, *proto.functions):
        for depth, part in enumerate(all_graphs(outer)):
            kept = [node for node in part.node if node.op_type != "Slice"]
            if len(kept) < len(part.node):
                deepest = max(deepest, 2 if depth or isinstance(outer, onnx.FunctionProto) else 1)
                replace_nodes(part, kept)
    return deepest


@dataclass(frozen=True)
class _Vectors:
    """``names`` are long vectors at these sizes and, as they grow with them, at smaller ones; ``notes`` whether what onnx
    notes is bounded without them: it is not where a body has some.
    """

    sizes: tuple[int, ...]
    names: frozenset[str]
    notes: bool


_vectors: dict[int, list[_Vectors]] = {}
"""By structures."""


def _takes_notes(node: onnx.NodeProto) -> bool:
    """Whether onnx computes numbers from those that it noted of the node's operands; shapes it reads off in any case."""
    if not is_standard(node) or has(node, Trait.SHAPE_ONLY) or not onnx.defs.has(node.op_type):
        return False
    return bool(onnx.defs.get_schema(node.op_type).has_data_propagation_function)


def _long_vectors(
    graph: onnx.GraphProto, shapes: Shapes, inferred: onnx.ModelProto, sizes: tuple[int, ...]
) -> _Vectors:
    """Vectors of more numbers than are worth a note, or of nobody knows how many."""
    lengths, inner = _vector_lengths(inferred.graph)
    if inferred.functions:
        try:
            whole = _infer(apart("writing out functions", inline_local_functions, inferred), notes=False).graph
            own = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
            outer, inner = _vector_lengths(whole)
            inner |= {name: length for name, length in outer.items() if name not in own}
        except BadModel:
            return _Vectors(sizes, frozenset(), notes=False)
    lengths |= {name: dims[0] for name, dims in shapes.dims.items() if len(dims) == 1}
    short = {tensor.name for tensor in graph.initializer}
    short |= {name for node in graph.node if has(node, Trait.SHAPE_ONLY) for name in node.output}
    names = frozenset(name for name, length in lengths.items() if not 0 < length <= _NOTED and name not in short)
    return _Vectors(sizes, names, notes=max(inner.values(), default=0) <= _NOTED)


def _vector_lengths(graph: onnx.GraphProto) -> tuple[dict[str, int], dict[str, int]]:
    """Lengths of vectors by name, 0 where unknown: of the graph, and of its bodies."""
    outer: dict[str, int] = {}
    inner: dict[str, int] = {}
    for depth, part in enumerate(all_graphs(graph)):
        for value in (*part.input, *part.value_info, *part.output):
            dims = value.type.tensor_type.shape.dim
            if len(dims) == 1:
                (inner if depth else outer)[value.name] = dims[0].dim_value
    return outer, inner


def _needs_hint(node: onnx.NodeProto) -> bool:
    """Whether nobody but the file can say what shape the node's outputs have."""
    known = onnx.defs.has(node.op_type) if is_standard(node) else knows_shapes(node)
    return not has(node, Trait.ON_BITS) and not known


_survived: set[int] = set()
"""Structures that shape inference came through once, at whatever sizes."""


def _infer(proto: onnx.ModelProto, *, notes: bool) -> onnx.ModelProto:
    """``notes`` asks for the numbers of vectors that shapes are made of, too."""

    def infer(proto: onnx.ModelProto) -> onnx.ModelProto:
        return onnx.shape_inference.infer_shapes(proto, data_prop=notes)

    if proto.functions or any(next(subgraphs(node), None) is not None for node in proto.graph.node):
        key = hash(tuple(part.SerializeToString() for part in (*proto.graph.node, *proto.functions)))
        if key not in _survived:  # checks node by node say little of what bodies and functions make
            inferred = apart("shape inference", infer, proto)
            _survived.add(key)
            return inferred
    try:
        return infer(proto)
    except Exception as error:
        raise BadModel("shape inference failed", why=str(error).strip()) from error


def _collect(inferred: onnx.ModelProto, model: Model) -> _Found:
    found = _Found({}, {})
    dims, dtypes = found.dims, found.dtypes
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if not value.type.HasField("tensor_type"):
            continue
        dtypes[value.name] = value.type.tensor_type.elem_type
        found.take(value.name, value.type.tensor_type)
    for name, weight in model.weights.items():
        dims[name] = weight.shape
        dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    for tensor in graph.initializer:
        dims[tensor.name], dtypes[tensor.name] = tuple(tensor.dims), tensor.data_type
    return found


def _take_stated(model: Model, inferred: onnx.ModelProto, shapes: _Found) -> bool:
    """Whether what a file states of its outputs, where it does not contradict what was found, tells more."""
    found = {v.name: v.type.tensor_type for v in inferred.graph.output}
    told = False
    for value in model.graph.output:
        said = onnx.TypeProto.Tensor()
        said.CopyFrom(value.type.tensor_type)
        known = found[value.name]
        if value.name in shapes.dims or (known.HasField("shape") and len(known.shape.dim) != len(said.shape.dim)):
            continue
        for own, dim in zip(said.shape.dim, known.shape.dim, strict=False):
            if dim.HasField("dim_value"):
                own.dim_value = dim.dim_value
        told |= shapes.take(value.name, said)
    return told


def _follow(model: Model, shapes: _Found, known: dict[str, np.ndarray], read: dict[str, np.ndarray]) -> list[str]:
    """Evaluate in graph order what is known, and infer what that settles. Names tensors whose shape was found.

    ``read`` is what may be read for shapes: all that is known, and small floats.
    """
    found: list[str] = []
    for node in model.graph.node:
        known_bits = bit_operator(node)
        if known_bits is not None:
            found.extend(_bit_shape(node, known_bits, shapes))
            continue
        if not is_standard(node) and node.output:
            found.extend(_foreign_shapes(node, model.opset, shapes))
        if not is_standard(node) or not node.output:
            continue
        results = _evaluated(node, shapes, known)
        if results is not None:
            known.update((o, value) for o, value in zip(node.output, results, strict=False) if o)
        else:
            results = _evaluated(node, shapes, read)
        if results is not None:
            read.update((o, value) for o, value in zip(node.output, results, strict=False) if o)
        if node.op_type == "Loop" and any(o and o not in shapes.dims for o in node.output):
            found.extend(_loop_shapes(node, model, shapes, known))
        if has(node, Trait.BODIES) or all(not o or o in shapes.dims for o in node.output):
            continue
        if all(not i or i in shapes.dims for i in node.input):
            found.extend(_infer_node(node, model.opset, shapes, read))
    return found


def _loop_shapes(node: onnx.NodeProto, model: Model, shapes: _Found, known: Mapping[str, np.ndarray]) -> list[str]:
    """Outputs of a Loop that onnx leaves open: states that keep their shape in every turn, and what is gathered in turns that
    can be counted.
    """
    (body,) = subgraphs(node)
    captured = sorted(captured_by(body))
    if any(name not in shapes.dims for name in (*node.input[2:], *captured)):
        return []
    states = dict(zip((value.name for value in body.input[2:]), node.input[2:], strict=True))
    become = dict(zip(states, (value.name for value in body.output[1:]), strict=False))
    while True:  # states that are taken to keep their shape, until none is found that does not
        told = {**states, **{name: name for name in captured}}
        try:
            inner = _inside(_body_of(node, body, model, shapes, told, known))
        except BadModel:  # it contradicts what was taken
            return []
        moved = [name for name, outer in states.items() if inner.dims.get(become[name]) != shapes.dims[outer]]
        if not moved:
            break
        states = {name: outer for name, outer in states.items() if name not in moved}
    made = {become[name]: shapes.dims[outer] for name, outer in states.items()}
    count = turns(node, {**model.weights, **known}) if len(node.output) > len(become) else None
    gathered = [] if count is None else [value.name for value in body.output[1 + len(become) :]]
    made |= {name: (count or 0, *inner.dims[name]) for name in gathered if name in inner.dims}
    found = []
    for name, value in zip(node.output, body.output[1:], strict=False):
        if name and name not in shapes.dims and value.name in made and value.name in inner.dtypes:
            shapes.dims[name], shapes.dtypes[name] = made[value.name], inner.dtypes[value.name]
            found.append(name)
    return found


def _inside(body: Model) -> Shapes:
    """Shapes in a body, which is inferred in a process of its own first. Raises BadModel where that fails."""
    found: list[Shapes] = []

    def infer(told: onnx.ModelProto) -> onnx.ModelProto:
        found.append(infer_shapes(body))
        return told

    ranks = tuple(len(value.type.tensor_type.shape.dim) for value in body.graph.input)
    key = hash((ranks, *(node.SerializeToString() for node in body.graph.node)))
    if key not in _survived:
        apart("shape inference", infer, onnx.ModelProto())
        _survived.add(key)
    infer(onnx.ModelProto())
    return found[-1]


def _body_of(
    node: onnx.NodeProto,
    body: onnx.GraphProto,
    model: Model,
    shapes: _Found,
    told: Mapping[str, str],
    known: Mapping[str, np.ndarray],
) -> Model:
    """The body of a Loop as a model: what is ``told`` has the shape of an outer tensor, other states have none. Weights that
    shapes do not depend on are inputs.
    """
    make = onnx.helper.make_tensor_value_info
    ends = [make(body.input[0].name, onnx.TensorProto.INT64, ()), make(body.input[1].name, onnx.TensorProto.BOOL, ())]
    for value, outer in zip(body.input[2:], node.input[2:], strict=True):
        ends.append(make(value.name, shapes.dtypes.get(outer, 0), shapes.dims[outer] if value.name in told else None))
    formal, weights = {value.name for value in body.input}, dict[str, np.ndarray]()
    for name in told.keys() - formal:
        value = known.get(name, model.weights.get(name))
        if value is not None and is_operand(value):
            weights[name] = value
        else:
            ends.append(make(name, shapes.dtypes.get(name, 0), shapes.dims[name]))
    for tensor in body.initializer:
        if np.prod(tensor.dims, dtype=np.int64) <= LARGEST:
            weights[tensor.name] = onnx.numpy_helper.to_array(tensor)
        else:
            ends.append(make(tensor.name, tensor.data_type, tensor.dims))
    outputs = [onnx.ValueInfoProto(name=value.name) for value in body.output]
    graph = onnx.GraphProto(name=body.name, node=body.node, input=ends, output=outputs)
    proto = onnx.ModelProto(ir_version=model.proto.ir_version, graph=graph)
    proto.opset_import.extend(model.proto.opset_import)
    proto.functions.extend(model.proto.functions)
    return Model(proto, weights)


def _follow_types(model: Model, shapes: _Found) -> None:
    """Element types of what has no shape, as where the numbers for free dimensions do not fit: they need none."""
    for node in model.graph.node:
        read = [name for name in node.input if name]
        if not is_standard(node) or has(node, Trait.BODIES) or not shapes.dtypes.keys() >= {*read}:
            continue
        if all(not name or name in shapes.dtypes for name in node.output):
            continue
        types = {name: onnx.helper.make_tensor_type_proto(shapes.dtypes[name], None) for name in read}
        for name, kind in _node_outputs(node, model.opset, types, {}).items():
            if kind.HasField("tensor_type") and kind.tensor_type.elem_type:
                shapes.dtypes.setdefault(name, kind.tensor_type.elem_type)


def _evaluated(node: onnx.NodeProto, shapes: _Found, known: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    if has(node, Trait.SHAPE_ONLY):
        return _shape_or_size(node, shapes.dims.get(node.input[0]))
    for name in node.input:
        if name and name not in known:
            return None
    return evaluate(node, [known[i] if i else None for i in node.input])


def _can_be(dims: Iterable[int]) -> bool:
    """Whether a file can state these lengths; products of made-up ones may be beyond."""
    return all(0 <= length < 2**63 for length in dims)


def _foreign_shapes(node: onnx.NodeProto, opset: int, shapes: _Found) -> list[str]:
    """Outputs of an operator outside the standard, if what it reads is known; names those that were not known before."""
    if all(not o or o in shapes.dims for o in node.output) or any(i and i not in shapes.dims for i in node.input):
        return []
    operands = [Tensor(shapes.dims[i], shapes.dtypes.get(i, 0)) if i else ABSENT for i in node.input]
    made = dict(zip(node.output, foreign_outputs(node, operands, opset), strict=False))
    found = [name for name, (dims, _) in made.items() if name and name not in shapes.dims and _can_be(dims)]
    for name in found:
        shapes.dims[name], shapes.dtypes[name] = made[name]
    return found


def _infer_node(node: onnx.NodeProto, opset: int, shapes: _Found, read: dict[str, np.ndarray]) -> list[str]:
    """Shape inference for one node whose operands became known after inference over the graph."""
    make = onnx.helper.make_tensor_type_proto
    types = {i: make(shapes.dtypes.get(i, 0), shapes.dims[i]) for i in node.input if i}
    data = {i: onnx.numpy_helper.from_array(read[i], i) for i in node.input if i in read}
    outputs = _node_outputs(node, opset, types, data)
    if has(node, Trait.SAME_SHAPE) and node.input[0] in types:
        outputs = {**outputs, node.output[0]: types[node.input[0]]}
    found = [name for name, kind in outputs.items() if name and shapes.take(name, kind.tensor_type)]
    shapes.dtypes.update((name, outputs[name].tensor_type.elem_type) for name in found)
    return found


def _node_outputs(
    node: onnx.NodeProto, opset: int, types: Mapping[str, onnx.TypeProto], data: Mapping[str, onnx.TensorProto]
) -> Mapping[str, onnx.TypeProto]:
    """What onnx says of one node; nothing where it fails."""
    imports, spelled = [onnx.helper.make_opsetid("", opset)], onnx.NodeProto()
    spelled.CopyFrom(node)
    _state_default(spelled)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
        return onnx.shape_inference.infer_node_outputs(schema, spelled, dict(types), dict(data), opset_imports=imports)
    except Exception:  # whatever its C++ code throws
        return {}


def _bit_shape(node: onnx.NodeProto, operator: BitOperator, shapes: _Found) -> list[str]:
    """The output of an operator on bits, if what it reads is known; names it if it was not known before.

    Raises:
        BadModel: its operands do not fit together.
    """
    if len(node.output) != 1 or any(i and i not in shapes.dims for i in node.input):
        return []
    try:
        dims = output_shape(node, [shapes.dims[i] if i else () for i in node.input])
    except ValueError as error:
        raise BadModel(f"node {display_name(node)!r} ({node.op_type}) is wrong", why=str(error)) from error
    if not _can_be(dims):
        return []
    found = [name for name in node.output if name not in shapes.dims]
    shapes.dims[node.output[0]], shapes.dtypes[node.output[0]] = dims, operator.dtype
    return found


def _shape_or_size(node: onnx.NodeProto, dims: tuple[int, ...] | None) -> list[np.ndarray] | None:
    if dims is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(dims, dtype=np.int64), dtype=np.int64)]
    bounds = {a.name: a.i for a in node.attribute}
    return [np.array(dims[slice(bounds.get("start", 0), bounds.get("end"))], dtype=np.int64)]
