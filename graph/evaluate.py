"""Exact evaluation of the small tensors that shapes are computed with.

One function per operator on numpy arrays, integers and booleans bit for bit as the ONNX specification has them. The
few float operators are those that IEEE 754 rounds correctly, since shapes reach attention scales through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from .nodes import as_ints, attribute
from .registry import registers

LARGEST = 4096
"""Elements above which a tensor is not evaluated: shapes and index tables are small."""

Evaluator = Callable[[onnx.NodeProto, Sequence[Any]], Sequence[np.ndarray]]
EVALUATORS: dict[str, Evaluator] = {}


evaluates = registers(EVALUATORS)


def evaluate(node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """Outputs of a node whose inputs are all known, or None where it has no evaluator or the result is large."""
    function = EVALUATORS.get(node.op_type)
    if function is None:
        return None
    try:
        with np.errstate(all="ignore"):
            results = [np.array(r, order="C") for r in function(node, inputs)]
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError):
        return None
    return results if all(r.size <= LARGEST for r in results) else None


def operand(node: onnx.NodeProto, inputs: Sequence[Any], position: int, name: str) -> Any:
    """An operand that older opsets hold as an attribute and newer ones as an input."""
    if len(inputs) > position and inputs[position] is not None:
        return inputs[position]
    return attribute(node, name)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return np.divide(a, b)


def _modulo(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.fmod(x[0], x[1]) if attribute(node, "fmod", 0) else np.mod(x[0], x[1])]


_BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}
_UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Not": np.logical_not,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sqrt": np.sqrt,
    "Sign": np.sign,
    "Identity": lambda x: x,
}


@evaluates(*_BINARY)
def binary(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [_BINARY[node.op_type](x[0], x[1])]


@evaluates(*_UNARY)
def unary(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [_UNARY[node.op_type](x[0])]


EVALUATORS["Mod"] = _modulo


@evaluates("Min", "Max")
def extremes(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    pick = np.minimum if node.op_type == "Min" else np.maximum
    out = x[0]
    for other in x[1:]:
        out = pick(out, other)
    return [out]


@evaluates("Where")
def where(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.where(x[0], x[1], x[2])]


@evaluates("Cast")
def cast(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [x[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attribute(node, "to")))]


@evaluates("Concat")
def concat(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate(list(x), axis=attribute(node, "axis", 0))]


@evaluates("Gather")
def gather(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.take(x[0], x[1], axis=attribute(node, "axis", 0))]


@evaluates("Slice")
def slice_(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    return [x[0][slices(node, x, x[0].ndim)]]


def slices(node: onnx.NodeProto, inputs: Sequence[Any], rank: int) -> tuple[slice, ...]:
    """A Slice node's operands as Python slices, one per axis. ``inputs[0]`` is not read."""
    starts, ends = as_ints(operand(node, inputs, 1, "starts")), as_ints(operand(node, inputs, 2, "ends"))
    axes, steps = operand(node, inputs, 3, "axes"), operand(node, inputs, 4, "steps")
    at = as_ints(axes) if axes is not None else list(range(len(starts)))
    by = as_ints(steps) if steps is not None else [1] * len(starts)
    cut = [slice(None)] * rank
    for axis, start, end, step in zip(at, starts, ends, by, strict=True):
        # A Python slice cannot say "down to and including index 0" with a number; ONNX does it with a very small end.
        stop = None if step < 0 and end < -(2**30) else end
        cut[axis % rank] = slice(start, stop, step)
    return tuple(cut)


@evaluates("Unsqueeze")
def unsqueeze(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    axes = as_ints(operand(node, x, 1, "axes"))
    rank = x[0].ndim + len(axes)
    out = x[0]
    for axis in sorted(a % rank for a in axes):
        out = np.expand_dims(out, axis)
    return [out]


@evaluates("Squeeze")
def squeeze(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    axes = operand(node, x, 1, "axes")
    return [np.squeeze(x[0], axis=None if axes is None else tuple(as_ints(axes)))]


@evaluates("Reshape")
def reshape(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    shape = as_ints(x[1])
    if not attribute(node, "allowzero", 0):
        shape = [x[0].shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return [x[0].reshape(shape)]


@evaluates("Transpose")
def transpose(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.transpose(x[0], attribute(node, "perm"))]


@evaluates("Expand")
def expand(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    shape = np.broadcast_shapes(x[0].shape, tuple(as_ints(x[1])))
    return [np.broadcast_to(x[0], shape)] if math.prod(shape) <= LARGEST else [np.empty(LARGEST + 1)]


@evaluates("Tile")
def tile(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    repeats = as_ints(x[1])
    return [np.tile(x[0], repeats)] if x[0].size * math.prod(repeats) <= LARGEST else [np.empty(LARGEST + 1)]


@evaluates("ConstantOfShape")
def constant_of_shape(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    shape = as_ints(x[0])
    if math.prod(shape) > LARGEST:
        return [np.empty(LARGEST + 1)]
    fill = attribute(node, "value")
    value = onnx.numpy_helper.to_array(fill).reshape(-1)[0] if fill is not None else np.float32(0)
    return [np.full(shape, value)]


@evaluates("Range")
def range_(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    start, limit, step = (v.item() for v in x)
    count = max(0, int(np.ceil((limit - start) / step)))
    if count > LARGEST:
        return [np.empty(LARGEST + 1)]
    return [(start + np.arange(count) * step).astype(x[0].dtype)]


_REDUCERS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


@evaluates(*_REDUCERS)
def reduce(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    if not np.issubdtype(x[0].dtype, np.integer):
        raise TypeError("only integers reduce exactly")
    axes = operand(node, x, 1, "axes")
    if axes is None and attribute(node, "noop_with_empty_axes", 0):
        return [x[0]]
    over = tuple(as_ints(axes)) if axes is not None and np.size(axes) else None
    keep = bool(attribute(node, "keepdims", 1))
    return [np.asarray(_REDUCERS[node.op_type](x[0], axis=over, keepdims=keep)).astype(x[0].dtype)]


@evaluates("Split")
def split(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    axis, parts = attribute(node, "axis", 0), operand(node, x, 1, "split")
    length = x[0].shape[axis]
    if parts is None:
        size = -(-length // len(node.output))
        return np.split(x[0], list(range(size, length, size)), axis=axis)
    return np.split(x[0], np.cumsum(as_ints(parts))[:-1], axis=axis)


@evaluates("NonZero")
def non_zero(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.array(np.nonzero(x[0]), dtype=np.int64)]


@evaluates("CumSum")
def cum_sum(node: onnx.NodeProto, x: Sequence[np.ndarray]) -> list[np.ndarray]:
    if attribute(node, "exclusive", 0) or attribute(node, "reverse", 0):
        raise TypeError("only the plain form is evaluated")
    return [np.cumsum(x[0], axis=int(x[1].item()), dtype=x[0].dtype)]
