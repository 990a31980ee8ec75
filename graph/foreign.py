"""Shapes and element types that operators outside the standard make: those of ONNX Runtime, of classical learners, QONNX.

Source: the operators' definitions, ONNX Runtime ``docs/ContribOperators.md`` and ``docs/Operators-ml.md`` of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple, TypeVar

import onnx
from onnx import TensorProto, helper

from .nodes import attribute
from .registry import registers
from .traits import Trait, has, operator, operator_key

T = TypeVar("T")


class Tensor(NamedTuple):
    """Shape and ONNX element type."""

    dims: tuple[int, ...]
    dtype: int


ABSENT = Tensor((), 0)
"""An operand that is left out."""
Operands = Sequence[Tensor]
ShapeRule = Callable[[onnx.NodeProto, Operands], Operands]
_RULES: dict[str, ShapeRule] = {}
_FLOAT, _INT64 = int(TensorProto.FLOAT), int(TensorProto.INT64)


def knows_shapes(node: onnx.NodeProto) -> bool:
    """Whether outputs of the node's operator follow from its operands."""
    return operator_key(node) in _RULES or has(node, Trait.SAME_SHAPE) or bool(operator(node).like)


def foreign_outputs(node: onnx.NodeProto, operands: Operands, opset: int) -> Operands:
    """What a node makes of its operands, by position, as far as it is known. ``opset`` is that of the standard."""
    rule, row = _RULES.get(operator_key(node)), operator(node)
    try:
        if rule is not None:
            return rule(node, operands)
        if row.like:
            return _like(node, operands, opset)
        return operands[:1] if has(node, Trait.SAME_SHAPE) else ()
    except Exception:  # operands that do not fit, here or in onnx's inference
        return ()


def _like(node: onnx.NodeProto, operands: Operands, opset: int) -> list[Tensor]:
    """What a standard operator would make, by onnx's inference."""
    row = operator(node)
    first = row.like_of[0]
    chosen = operands[-first::3] if first < 0 else [operands[i] for i in row.like_of]
    last = bool(attribute(node, "channels_last", 0))
    names = [f"x{k}" for k in range(len(chosen))]
    schema = onnx.defs.get_schema(row.like, opset)
    types = {}
    for k, (name, (dims, _)) in enumerate(zip(names, chosen, strict=True)):
        dims = (dims[0], dims[-1], *dims[1:-1]) if last and not k else dims
        types[name] = helper.make_tensor_type_proto(_FLOAT, dims)
    stand_in = helper.make_node(row.like, names, ["y"])
    stand_in.attribute.extend(a for a in node.attribute if a.name in schema.attributes)
    imports = [helper.make_opsetid("", opset)]
    made = onnx.shape_inference.infer_node_outputs(schema, stand_in, types, opset_imports=imports)["y"]
    dims = tuple(d.dim_value for d in made.tensor_type.shape.dim)
    if not made.tensor_type.HasField("shape") or min(dims, default=0) < 0:
        return []
    typed = next(t for i in row.typed if (t := _there(operands, i)))
    return [Tensor((dims[0], *dims[2:], dims[1]) if last else dims, typed.dtype)]


_shapes = registers(_RULES)


@_shapes("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization")
def _skip_norm(node: onnx.NodeProto, x: Operands) -> Operands:
    moment = Tensor((*x[0].dims[:-1], 1), _FLOAT)
    return [x[0], moment, moment, x[0]]


@_shapes("com.microsoft:FusedMatMul")
def _fused_matmul(node: onnx.NodeProto, x: Operands) -> Operands:
    """Each side may swap its last two axes, or first bring the first axis behind all others but the last."""
    a, b = (turned(x[i].dims, node, "AB"[i]) for i in (0, 1))
    batch = _stretched(a[:-2], b[:-2])
    return [Tensor((*batch, *a[-2:-1], *b[-1:]), x[0].dtype)]


def turned(axes: Sequence[T], node: onnx.NodeProto, side: str) -> tuple[T, ...]:
    """Axes of one side of a FusedMatMul in the order in which they are multiplied."""
    axes = tuple(axes)
    if attribute(node, f"transBatch{side}", 0):
        axes = (*axes[1:-1], axes[0], axes[-1])
    return (*axes[:-2], axes[-1], axes[-2]) if attribute(node, f"trans{side}", 0) and len(axes) > 1 else axes


def _stretched(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(max(column) if 0 not in column else 0 for column in zip(*padded, strict=True))


@_shapes("com.microsoft:MatMulNBits", "com.microsoft:MatMulBnb4")
def _blocked(node: onnx.NodeProto, x: Operands) -> Operands:
    return [Tensor((*x[0].dims[:-1], int(attribute(node, "N"))), x[0].dtype)]


@_shapes("com.microsoft:MultiHeadAttention")
def _attention(node: onnx.NodeProto, x: Operands) -> Operands:
    """Operands: queries (B, S, N*H), keys and values (B, L, N*H) or (B, N, L, H); or (B, L, N, 3, H) alone; past at 6."""
    heads = int(attribute(node, "num_heads"))
    key = _there(x, 1) or x[0]
    value = _there(x, 2) or key
    length, width = key.dims[2 if len(key.dims) == 4 else 1], value.dims[-1] // (heads if len(value.dims) == 3 else 1)
    past = _there(x, 6)
    present = Tensor((x[0].dims[0], heads, length + (past.dims[2] if past else 0), width), x[0].dtype)
    return [Tensor((*x[0].dims[:2], heads * width), x[0].dtype), present, present]


@_shapes("com.microsoft:GroupQueryAttention")
def _grouped_attention(node: onnx.NodeProto, x: Operands) -> Operands:
    """Operands: queries (B, S, N*H), keys and values (B, S, n*H), or all in one; caches (B, n, P, H) at 3 and 4."""
    heads, shared = int(attribute(node, "num_heads")), int(attribute(node, "kv_num_heads"))
    batch, length, wide = x[0].dims
    width = wide // heads if _there(x, 1) else wide // (heads + 2 * shared)
    past = _there(x, 3)
    present = Tensor((batch, shared, length + (past.dims[2] if past else 0), width), x[0].dtype)
    return [Tensor((batch, length, heads * width), x[0].dtype), present, present]


@_shapes("com.microsoft:Attention", "com.microsoft:QAttention")
def _projected_attention(node: onnx.NodeProto, x: Operands) -> Operands:
    """Operands: x (B, S, C), weights (C, Q + K + V), bias, then for QAttention scales; past (2, B, N, P, H)."""
    heads = int(attribute(node, "num_heads"))
    sizes = attribute(node, "qkv_hidden_sizes") or [x[1].dims[1] // 3] * 3
    batch, length, _ = x[0].dims
    past = _there(x, 8 if node.op_type == "QAttention" else 4)
    present = (2, batch, heads, length + (past.dims[3] if past else 0), sizes[1] // heads)
    kind = x[2].dtype
    return [Tensor((batch, length, sizes[2]), kind), Tensor(present, kind)]


def _there(x: Operands, i: int) -> Tensor | None:
    return x[i] if i < len(x) and x[i] is not ABSENT else None


@_shapes("com.microsoft:EmbedLayerNormalization", "com.microsoft:QEmbedLayerNormalization")
def _embedded(node: onnx.NodeProto, x: Operands) -> Operands:
    """Words (B, S) and their table at 2; the scale of a table in integers at 8."""
    batch, length = x[0].dims
    y = Tensor((batch, length, x[2].dims[1]), x[8 if len(x) > 9 else 2].dtype)
    return [y, Tensor((batch,), int(TensorProto.INT32)), y]


@_shapes("com.microsoft:DynamicQuantizeLSTM")
def _recurrent(node: onnx.NodeProto, x: Operands) -> Operands:
    """Shapes: x (T, B, I), weights (D, I, 4 H) and (D, H, 4 H), y (T, D, B, H), last states (D, B, H)."""
    length, batch, _ = x[0].dims
    directions, hidden, _ = x[2].dims
    last = Tensor((directions, batch, hidden), x[0].dtype)
    return [Tensor((length, directions, batch, hidden), x[0].dtype), last, last]


@_shapes("ai.onnx.ml:Scaler", "ai.onnx.ml:Normalizer")
def _to_floats(node: onnx.NodeProto, x: Operands) -> Operands:
    return [Tensor(x[0].dims, _FLOAT)]


@_shapes("ai.onnx.ml:Imputer", "ai.onnx.ml:Binarizer")
@_shapes(*(f"qonnx.custom_op.general:{op}" for op in ("Quant", "IntQuant", "BipolarQuant", "FloatQuant", "Trunc")))
def _unchanged(node: onnx.NodeProto, x: Operands) -> Operands:
    return x[:1]


@_shapes("ai.onnx.ml:LinearRegressor", "ai.onnx.ml:SVMRegressor", "ai.onnx.ml:TreeEnsembleRegressor")
def _regressed(node: onnx.NodeProto, x: Operands) -> Operands:
    targets = int(attribute(node, "n_targets", attribute(node, "targets", 1)))
    return [Tensor((_rows(x), targets), _FLOAT)]


@_shapes("ai.onnx.ml:LinearClassifier", "ai.onnx.ml:SVMClassifier", "ai.onnx.ml:TreeEnsembleClassifier")
def _classified(node: onnx.NodeProto, x: Operands) -> Operands:
    """Labels, and a score for each class."""
    names = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
    found = {name: attribute(node, name) for name in names if attribute(node, name)}
    (name, labels), *_ = found.items()
    kind = int(TensorProto.STRING) if name == names[2] else _INT64
    return [Tensor((_rows(x),), kind), Tensor((_rows(x), len(labels)), _FLOAT)]


def _rows(x: Operands) -> int:
    return x[0].dims[0] if len(x[0].dims) > 1 else 1


@_shapes("ai.onnx.ml:FeatureVectorizer")
def _joined(node: onnx.NodeProto, x: Operands) -> Operands:
    return [Tensor((_rows(x), sum(attribute(node, "inputdimensions"))), _FLOAT)]


@_shapes("ai.onnx.ml:OneHotEncoder")
def _one_hot(node: onnx.NodeProto, x: Operands) -> Operands:
    categories = attribute(node, "cats_int64s") or attribute(node, "cats_strings")
    return [Tensor((*x[0].dims, len(categories)), _FLOAT)]


@_shapes("ai.onnx.ml:ArrayFeatureExtractor")
def _extracted(node: onnx.NodeProto, x: Operands) -> Operands:
    dims = x[0].dims if len(x[0].dims) > 1 else (1, *x[0].dims)
    return [Tensor((*dims[:-1], prod(x[1].dims)), x[0].dtype)]
