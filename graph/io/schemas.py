"""Hold nodes against the operators' definitions, so that nothing behind the door meets what they forbid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from ..dtypes import is_known
from ..errors import BadModel
from ..nodes import attribute, body_ends, display_name, is_standard, subgraphs
from ..traits import OPERATORS, Role, Trait, has, has_any, operator, operator_key

MOST_AXES = 32
"""Axes that a tensor may have; NumPy knows no more in all its versions."""
MOST_NUMBERS = 2**48
_LARGEST = 2**31 - 1
_SMALL = 2000
"""Bytes up to which a node is remembered: a large model has many that are alike."""
_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_LEFT_OUT = "an input that it needs is left out"
_JOINS = "Concat"
_RESIZES_BY_TWO = 10
"""Up to this operator set Resize has an input and scales."""
_COUNTS = {"group", "hidden_size", "blocksize", "num_outputs", "num_groups", "num_heads", "q_num_heads", "kv_num_heads"}
_POSITIVE = _COUNTS | {"kernel_shape", "strides", "dilations"}
_AXES = {"axis", "axes", "perm", "batch_axis", "time_axis", "scan_input_axes", "scan_output_axes", "batch_dims"}
_AMOUNTS = {"pads", "output_padding", "output_shape", "max_trip_count"}
_FLAGS = {"keepdims", "noop_with_empty_axes"}
"""Runtimes ask whether they are 1, others whether they are 0: of another number they make different things."""
_RANGED = {
    **dict.fromkeys(_FLAGS, (0, 1)),
    **dict.fromkeys(_POSITIVE, (1, _LARGEST)),
    **dict.fromkeys(_AXES, (-MOST_AXES, MOST_AXES)),
    **dict.fromkeys(_AMOUNTS, (-_LARGEST, _LARGEST)),
}
"""Attributes that hold integers, by name, and the least and the most that each may be."""
_ALONG = {"strides": 1, "dilations": 1, "pads": 2, "output_padding": 1}
"""Attributes with so many numbers for each axis that a kernel slides along."""
_TYPED = {"to", "dtype"}
"""Attributes that name an element type."""
_SHORT = {"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "TYPE_PROTO": "tp"}
_FIELDS = {kind: _SHORT.get(name, name.lower()) for name, kind in AttributeProto.AttributeType.items() if kind}
"""Where an attribute of each type has its value."""
_FITTED = Trait.STANDARDIZES | Trait.CONVOLVES | Trait.MULTIPLIES | Trait.RECURRENT | Trait.MOVES
"""Operators whose operands have to fit one another."""
_HOLDERS = {"t", "g", "sparse_tensor", "tensors", "graphs", "sparse_tensors"}
"""Fields that can hold tensors, and with them paths of files."""


@cache
def schema_of(op_type: str, opset: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """The definition of an operator, outside the standard domain the newest; None where onnx knows none."""
    try:
        return onnx.defs.get_schema(op_type, domain) if domain else onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None


@cache
def _attributes(op_type: str, opset: int, domain: str) -> tuple[Mapping[str, int], frozenset[str]]:
    """The types of an operator's attributes as protobuf numbers them, and which must be there."""
    about = getattr(schema_of(op_type, opset, domain), "attributes", {})
    return {n: int(a.type.value) for n, a in about.items()}, frozenset(n for n, a in about.items() if a.required)


def key_of(node: onnx.NodeProto) -> tuple[object, ...] | None:
    """What nodes have in common that are right or wrong together, but for their names; None for large ones."""
    if node.ByteSize() > _SMALL or "" in node.input:
        return None
    attributes = [a.SerializeToString() for a in node.attribute]
    return (node.op_type, node.domain, len(node.input), len(node.output), *attributes)


def wrong(node: onnx.NodeProto, why: str) -> BadModel:
    return BadModel(
        f"node {display_name(node)!r} ({node.op_type}) is wrong", why=why, fix="the file is damaged; export it again"
    )


def check_node(node: onnx.NodeProto, opset: int) -> None:
    """Compare a node with its operator's definition; of those that onnx does not know, what is named as a standard one's."""
    domain = "" if is_standard(node) else node.domain
    schema = schema_of(node.op_type, opset, domain)
    if schema is None:
        if operator_key(node) in OPERATORS and not any(node.input[:1]):
            raise wrong(node, _LEFT_OUT)
        if like := operator(node).like:
            _check_types(node, _attributes(like, opset, "")[0])
            if like == _JOINS and "" in node.input:
                raise wrong(node, _LEFT_OUT)
        return
    for kind, found, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), max(1, schema.min_output), schema.max_output),
    ):
        if not least <= found <= most:
            raise wrong(node, f"it has {found} {kind}, the operator takes {least} to {most}")
    if "" in node.input:
        options = [operand.option for operand in schema.inputs]
        options += options[-1:] * (len(node.input) - len(options))  # those of which there may be many come last
        if any(not name and kind != _OPTIONAL for name, kind in zip(node.input, options, strict=False)):
            raise wrong(node, _LEFT_OUT)
    if node.op_type == "Resize" and opset > _RESIZES_BY_TWO and not any(node.input[2:]):
        raise wrong(node, "it has neither scales nor sizes")
    types, required = _attributes(node.op_type, opset, domain)
    if required and (missing := required.difference(a.name for a in node.attribute)):
        raise wrong(node, f"the attribute {min(missing)!r} that it needs is left out")
    _check_types(node, types)
    for a in node.attribute:
        if (a.name in _RANGED or a.name in _TYPED) and not a.ref_attr_name:
            _check_value(node, a)


def _check_types(node: onnx.NodeProto, types: Mapping[str, int]) -> None:
    for a in node.attribute:
        expected = types.get(a.name)
        if expected is not None and a.type != expected:
            raise wrong(node, f"its attribute {a.name!r} is {_kind(a.type)}, not {_kind(expected)}")


def check_bodies(node: onnx.NodeProto, opset: int) -> None:
    """A body takes what its node hands it, and makes all that the node gives."""
    ends = None if opset < operator(node).changed else body_ends(node)
    if ends is None:
        return
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 1)
    if not 1 <= scanned <= len(node.input):
        raise wrong(node, f"its attribute 'num_scan_inputs' is {scanned}, of {len(node.input)} inputs")
    for body in subgraphs(node):
        if len(body.input) != ends[0] or len(body.output) < ends[1]:
            found = f"a body has {len(body.input)} inputs and {len(body.output)} outputs"
            raise wrong(node, f"{found}, the operator takes {ends[0]} and {ends[1]}")
        _check_scanned(node, scanned, len(body.output) - len(node.input) + scanned)


def _check_scanned(node: onnx.NodeProto, taken: int, given: int) -> None:
    """What is said of each end that a Scan runs along is said of all of them."""
    for a in node.attribute:
        count = taken if a.name.startswith("scan_input_") else given if a.name.startswith("scan_output_") else None
        if count is not None and a.ints and len(a.ints) != count:
            raise wrong(node, f"its attribute {a.name!r} has {len(a.ints)} numbers for {count} tensors")


def check_fields(node: onnx.NodeProto) -> None:
    """Whatever the operator: each attribute stands once, says its type, and holds no tensor in another field."""
    names = set()
    for a in node.attribute:
        if isinstance(a.name, bytes) or isinstance(a.ref_attr_name, bytes):
            raise wrong(node, f"the name of its attribute {a.name!r} is no text")
        field = _FIELDS.get(a.type)
        if field is None:
            raise wrong(node, f"its attribute {a.name!r} does not say what type it has")
        if a.name in names:
            raise wrong(node, f"its attribute {a.name!r} stands twice")
        names.add(a.name)
        for found, _ in a.ListFields():
            if found.name in _HOLDERS and found.name != field:
                raise wrong(node, f"its attribute {a.name!r} is {_kind(a.type)} and holds a tensor or graph besides")


def _kind(kind: int) -> str:
    return str(AttributeProto.AttributeType.Name(kind)) if kind in _FIELDS else f"of unknown type {kind}"


def _check_value(node: onnx.NodeProto, a: AttributeProto) -> None:
    limits = _RANGED.get(a.name)
    if limits is not None:
        values = [a.i] if a.type == AttributeProto.INT else a.ints
        if values and not limits[0] <= min(values) <= max(values) <= limits[1]:
            raise wrong(node, f"its attribute {a.name!r} is {_short(values)}, not {limits[0]} to {limits[1]}")
        if a.name == "kernel_shape" and math.prod(values) > MOST_NUMBERS:
            raise wrong(node, f"its attribute {a.name!r} is {_short(values)}, which is absurd")
        if a.name == "perm" and sorted(values) != [*range(len(values))]:
            raise wrong(node, f"its attribute {a.name!r} is {_short(values)}, which is no order of axes")
    elif a.name in _TYPED and a.type == AttributeProto.INT and not (a.i and is_known(a.i)):
        raise wrong(node, f"its attribute {a.name!r} is {a.i}, which the installed onnx knows no element type by")


def _short(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + ", ..." * (len(values) > 8)


def check_constants(nodes: Iterable[onnx.NodeProto], opset: int, weights: Mapping[str, np.ndarray]) -> None:
    """Element types, ranks and lengths of standard nodes' constant operands, as far as definitions fix them; of all nodes'
    scales and zero points, whether there are any.
    """
    right: set[tuple[object, ...]] = set()
    for node in nodes:
        constants = [(k, weights[name]) for k, name in enumerate(node.input) if name in weights]
        for k, weight in constants:
            if not weight.size and _is_scale(node, k):
                raise wrong(node, f"its operand {k}, a scale or a zero point, holds no number")
        if not constants or not is_standard(node) or not (taken := _element_types(node.op_type, opset)):
            continue
        for k, weight in constants:
            allowed = taken[min(k, len(taken) - 1)]
            if allowed and weight.dtype not in allowed:
                raise wrong(node, f"its operand {k} has elements of type {weight.dtype}, which it does not take")
        key = key_of(node)
        shapes = {k: weight.shape for k, weight in constants}
        known = None if key is None else (*key, *shapes.items())
        if known not in right:
            if why := misfit(node, shapes):
                raise wrong(node, why)
            if known is not None:
                right.add(known)


def _is_scale(node: onnx.NodeProto, place: int) -> bool:
    """Whether an operand says what integers stand for; of a Concat of them each part has a scale and a zero point."""
    known = operator(node)
    return place in known.scales or (known.like == _JOINS and bool(known.scales) and place % 3 != 2)


@cache
def _element_types(op_type: str, opset: int) -> tuple[frozenset[np.dtype], ...]:
    """What elements each operand of a standard operator may have; the last row is that of all which follow."""
    if schema_of(op_type, opset) is None:
        return ()
    both = (schema_of(op_type, known) for known in (opset, onnx.defs.onnx_opset_version()))  # older ones forgot some
    types = [[operand.types for operand in schema.inputs] for schema in both if schema and schema.inputs]
    rows = max(map(len, types), default=0)
    return tuple(_dtypes(text for row in types for text in row[min(k, len(row) - 1)]) for k in range(rows))


def _dtypes(texts: Iterable[str]) -> frozenset[np.dtype]:
    names = {text[7:-1].upper() for text in texts if text.startswith("tensor(")}
    kinds = onnx.TensorProto.DataType.items()
    return frozenset(onnx.helper.tensor_dtype_to_np_dtype(number) for name, number in kinds if name in names)


def misfits(nodes: Iterable[onnx.NodeProto], dims: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Why the shapes of standard nodes' operands, as far as ``dims`` has them, cannot be; by the node's place."""
    told = {}
    for place, node in enumerate(nodes):
        if is_standard(node) and (has_any(node, _FITTED | Trait.BODIES) or node.op_type in _RANKS):
            why = misfit(node, {k: dims[name] for k, name in enumerate(node.input) if name in dims})
            if why:
                told[place] = why
    return told


def misfit(node: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    """Why operands cannot have these shapes; empty where they can. Inference looks at little of that."""
    lists = [k for k, role in operator(node).roles.items() if role not in (Role.INDICES, Role.POSITIONS)]
    if wide := [k for k in lists if len(shapes.get(k, ())) > 1]:
        return f"its operand {wide[0]} has shape {list(shapes[wide[0]])}, not that of a list of numbers"
    if many := [k for k in operator(node).deciding if math.prod(shapes.get(k, ())) != 1]:
        return f"its operand {many[0]} has shape {list(shapes[many[0]])}, not that of a single number"
    if wrong_rank := _RANKS.get(node.op_type):
        return wrong_rank(node, shapes)
    if node.op_type == "Transpose":
        axes, rank = len(attribute(node, "perm") or shapes.get(0, ())), len(shapes.get(0, ()))
        return f"its attribute 'perm' names {axes} axes of {rank}" if 0 in shapes and axes != rank else ""
    if has(node, Trait.STANDARDIZES):
        return _vectors(shapes, range(1, 5)) or _unlike(shapes, 1, shapes.get(1, (None,))[0])
    if has(node, Trait.RECURRENT):
        return _recurrent(node, shapes)
    if has(node, Trait.CONVOLVES):
        return _kernel(node, shapes)
    if node.op_type == "Gemm":
        bad = [k for k in (0, 1) if len(shapes.get(k, (0, 0))) != 2] + [2] * (len(shapes.get(2, ())) > 2)
        if bad:
            return f"its operand {bad[0]} has {len(shapes[bad[0]])} axes, which is not the rank of a matrix"
        rows = shapes.get(1, (None, None))[bool(attribute(node, "transB", 0))]
        return _unlike(shapes, 0 if attribute(node, "transA", 0) else 1, rows)
    if has(node, Trait.MULTIPLIES):
        bad = [k for k, shape in shapes.items() if not shape and node.op_type == "MatMul"]
        return f"its operand {bad[0]} is a single number, not a matrix" if bad else ""
    if has(node, Trait.QUANTIZES) and 1 in shapes and 2 in shapes and math.prod(shapes[1]) != math.prod(shapes[2]):
        return f"its scales have shape {list(shapes[1])}, its zero points {list(shapes[2])}"
    return ""


def _letters(node: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    """An Einsum has a letter for each axis of an operand, at most as many where there is an ellipsis."""
    terms = str(attribute(node, "equation", "")).replace(" ", "").partition("->")[0].split(",")
    for k, term in enumerate(terms):
        letters = len(term.replace("...", ""))
        if k in shapes and (len(shapes[k]) < letters or ("..." not in term and len(shapes[k]) > letters)):
            return f"its operand {k} has {len(shapes[k])} axes, its equation {letters}"
    return ""


def _regions(_: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    fits = 1 not in shapes or (len(shapes[1]) == 2 and shapes[1][1] == 5)
    return "" if fits else f"its regions have shape {list(shapes[1])}, not that of a batch and four corners each"


def _scales(_: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    if 0 in shapes and 1 in shapes and shapes[1] != (len(shapes[0]),):
        return f"its scales have shape {list(shapes[1])}, its input {len(shapes[0])} axes"
    return ""


def _squeezed(node: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    listed = shapes.get(1) == (0,) or any(
        a.name == "axes" and not a.ints and not a.ref_attr_name for a in node.attribute
    )
    return "its list of axes is empty: runtimes drop all axes of length 1 then, or none" if listed else ""


_RANKS: Mapping[str, Callable[[onnx.NodeProto, Mapping[int, tuple[int, ...]]], str]] = {
    "Einsum": _letters,
    "MaxRoiPool": _regions,
    "Squeeze": _squeezed,
    "Upsample": _scales,
}
"""Of operators at whose operands ONNX Runtime ends the process where their shapes do not fit, or means another thing."""


def _unlike(shapes: Mapping[int, tuple[int, ...]], axis: int, wanted: int | None) -> str:
    """Why weights for so many channels do not fit the first operand, whose channels are this axis."""
    length = shapes.get(0, ())[axis : axis + 1]
    unlike = wanted is not None and length and length[0] != wanted
    return f"its input has {length[0]} channels, its weights are for {wanted}" if unlike else ""


def _vectors(shapes: Mapping[int, tuple[int, ...]], operands: range) -> str:
    found = {k: shapes[k] for k in operands if k in shapes}
    bad = next((k for k, shape in found.items() if len(shape) != 1), None)
    if bad is not None:
        return f"its operand {bad} has shape {list(found[bad])}, not that of a vector"
    lengths = {shape[0] for shape in found.values()}
    return f"its vectors have different lengths: {', '.join(map(str, sorted(lengths)))}" if len(lengths) > 1 else ""


def _kernel(node: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    about = operator(node)
    bias = shapes.get(about.bias) if about.bias is not None else None
    if bias is not None and len(bias) != 1:
        return f"its bias has shape {list(bias)}, not that of a vector"
    shape = shapes.get(about.weight)
    if shape is None:
        return ""
    if len(shape) < 3:
        return f"its weight has shape {list(shape)}: filters have three axes or more"
    said = {a.name: a.i if a.type == AttributeProto.INT else a.ints for a in node.attribute}
    group = said.get("group", 1)
    if not shape[0] or shape[0] % group:
        return f"its weight has shape {list(shape)}, which does not divide into {group} groups"
    made = shape[1] * group if node.op_type == "ConvTranspose" else shape[0]
    if bias is not None and bias[0] != made:
        return f"its bias has {bias[0]} numbers for {made} channels"
    if len(shapes.get(0, shape)) != len(shape):
        return f"its input has {len(shapes[0])} axes, its weight {len(shape)}"
    read = shape[0] if node.op_type == "ConvTranspose" else shape[1] * group
    return _windows(said, shape[2:]) or _unlike(shapes, 1, read)


def _windows(said: Mapping[str, Any], kernel: tuple[int, ...]) -> str:
    """Strides and the like have one number for each axis that the kernel slides along, or are left out."""
    if (stated := said.get("kernel_shape")) and tuple(stated) != kernel:
        return f"its kernel is {list(kernel)} long, its attribute kernel_shape says {list(stated)}"
    for name, times in _ALONG.items():
        values = said.get(name)
        if values and len(values) != times * len(kernel):
            return f"its attribute {name} has {len(values)} numbers, its weight wants {times * len(kernel)}"
    return ""


def _recurrent(node: onnx.NodeProto, shapes: Mapping[int, tuple[int, ...]]) -> str:
    gates = operator(node).gates
    for position, rank in ((1, 3), (2, 3), (3, 2)):
        shape = shapes.get(position)
        if shape is not None and len(shape) != rank:
            return f"its operand {position} has shape {list(shape)}, which has {rank} axes by definition"
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    hidden = attribute(node, "hidden_size") or (shapes[2][2] if 2 in shapes else None)
    if hidden is None:
        return ""
    wanted = {
        1: (directions, gates * hidden),
        2: (directions, gates * hidden, hidden),
        3: (directions, 2 * gates * hidden),
    }
    for position, dims in wanted.items():
        shape = shapes.get(position)
        if shape is not None and shape[: len(dims)] != dims:
            return f"its operand {position} has shape {list(shape)}, {list(dims)} is what {hidden} hidden units need"
    return _unlike(shapes, 2, shapes[1][2]) if 1 in shapes else ""
