"""Exact evaluation of the small tensors that shapes are computed with.

One function per operator on numpy arrays, integers and booleans bit for bit as the ONNX specification has them. The
few float operators are those that IEEE 754 rounds correctly, since shapes reach attention scales through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .nodes import as_ints, attribute, constant_value, subgraphs

LARGEST = 4096
"""Elements above which a tensor is not evaluated: shapes and index tables are small."""

_MOST_TURNS = 1 << 12
"""Of a Loop that are counted one by one."""
_MOST = 1 << 30
"""Of one whose states grow by the same in each turn, and the largest number in one."""
_LINEAR = ("Add", "Sub", "Identity", "Constant")
_COMPARES = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And")

Evaluator = Callable[[onnx.NodeProto, Sequence[Any]], "np.ndarray | list[np.ndarray]"]


def evaluates(node: onnx.NodeProto) -> bool:
    """Whether there is an evaluator for the node."""
    return node.op_type in _EVALUATORS


def evaluate(node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """Outputs of a node whose inputs are all known, or None where it has no evaluator or the result is large."""
    results = moved(node, inputs)
    if results is None or any(r.size > LARGEST for r in results):
        return None
    return [np.array(r, order="C") for r in results]


def moved(node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The same for tensors of any size, as views where numpy can."""
    function = _EVALUATORS.get(node.op_type)
    if function is None:
        return None
    try:
        with np.errstate(all="ignore"):
            made = function(node, inputs)
            return [np.asarray(r) for r in (made if isinstance(made, list) else [made])]
    except (AttributeError, ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError):
        return None


def turns(loop: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> int | None:
    """How often a Loop turns, by the numbers that are known around it; None where they do not say, or it is very often."""
    (body,) = subgraphs(loop)
    count, begins = (
        known.get(name) if name else np.asarray(unsaid) for name, unsaid in zip(loop.input, (-1, True), strict=False)
    )
    if count is None or begins is None or count.size != 1 or begins.size != 1:
        return None
    most, ends = int(count.reshape(-1)[0]), body.output[0].name
    if not begins.reshape(-1)[0] or (most <= 0 and loop.input[0]):
        return 0
    if ends == body.input[1].name:  # nothing changes it
        return most if most > 0 else None
    next_of = {given.name: made.name for given, made in zip(body.input[2:], body.output[1:], strict=False)}
    steps = _behind(ends, body, next_of)
    read = {name for node in steps for name in node.input} | {ends}
    fixed = {name: value for name, value in known.items() if name in read}
    fixed |= {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer if tensor.name in read}

    def turned(turn: int, handed: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Whether a turn is followed by another, None where that is not known, and what it hands on."""
        values = {**fixed, **{name: value for name, value in handed.items() if value is not None}}
        values |= {body.input[0].name: np.asarray(turn), body.input[1].name: np.asarray(True)}
        for node in steps:
            values |= _evaluated(node, values)
        goes_on = values.get(ends)
        following = {given: values.get(made) for given, made in next_of.items() if given in read}
        return None if goes_on is None else bool(goes_on.reshape(-1)[0]), following

    begin = {given: known.get(name) for given, name in zip(next_of, loop.input[2:], strict=False) if given in read}
    grows = [node for given in begin for node in _behind(next_of[given], body, next_of)]
    if all(node.op_type in _LINEAR for node in grows) and _compares(steps):
        found = _first_end(turned, begin)
        if found is not None:
            return min(found, most) if most >= 0 else found if found < _MOST else None
    handed = begin
    for turn in range(_MOST_TURNS):
        if turn == most:
            return turn
        goes_on, handed = turned(turn, handed)
        if not goes_on:
            return None if goes_on is None else turn + 1
    return None


def _compares(steps: Sequence[onnx.NodeProto]) -> bool:
    """Whether a loop goes on while each of some comparisons holds of sums: nothing is computed with what they say."""
    said = {name for node in steps if node.op_type in _COMPARES for name in node.output}
    for node in steps:
        if node.op_type == "Cast":
            kept = attribute(node, "to") in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64)
        else:
            kept = node.op_type in (*_LINEAR, *_COMPARES)
        if not kept or (node.op_type not in _COMPARES and said.intersection(node.input)):
            return False
    return True


def _first_end(
    turned: Callable[[int, Mapping[str, Any]], tuple[Any, dict[str, Any]]], begin: Mapping[str, Any]
) -> int | None:
    """Of a loop whose states grow by the same in each turn, and which goes on while each of some comparisons holds: these
    turn once. So the first turn behind which it ends is found by halving; a great number where it goes on for ever, None where
    states do not grow so, or beyond their type.
    """
    (goes_on, second), told = turned(0, begin), [*begin.values()]
    if goes_on is None or any(value is None or value.dtype.kind not in "iu" for value in (*told, *second.values())):
        return None
    third = turned(1, second)[1]
    grown = {name: second[name].astype(np.int64) - value.astype(np.int64) for name, value in begin.items()}
    if any((third[name].astype(np.int64) - second[name].astype(np.int64) != grown[name]).any() for name in grown):
        return None  # as those of the next turn follow from these, they are always the same, or never

    largest = max((abs(int(n)) for value in (*begin.values(), *grown.values()) for n in value.reshape(-1)), default=0)
    furthest = _MOST // max(1, largest) - 1

    def goes_on_after(turn: int) -> bool:
        handed = {name: (value + turn * grown[name]).astype(value.dtype) for name, value in begin.items()}
        return bool(turned(turn, handed)[0])

    low, high = -1, 1 if goes_on else 0
    while high < furthest and goes_on_after(high):
        low, high = high, 2 * high
    if high >= furthest:
        return None if grown else _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if goes_on_after(middle) else (low, middle)
    return high + 1


def _evaluated(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name, none where something is not known."""
    if node.op_type == "Constant" or any(name and name not in values for name in node.input):
        constant = constant_value(node) if node.op_type == "Constant" else None
        return {} if constant is None else {node.output[0]: constant}
    made = evaluate(node, [values[name] if name else None for name in node.input])
    return dict(zip(node.output, made or (), strict=False))


def _behind(name: str, body: onnx.GraphProto, next_of: Mapping[str, str]) -> list[onnx.NodeProto]:
    """The nodes of a body that a tensor depends on, in any turn; ``next_of`` names what states become."""
    wanted, steps = {name}, list[onnx.NodeProto]()
    while True:
        before = len(wanted)
        wanted |= {made for given, made in next_of.items() if given in wanted}
        steps = [node for node in body.node if wanted.intersection(node.output)]
        wanted |= {i for node in steps for i in node.input}
        if len(wanted) == before:
            return steps


def operand(node: onnx.NodeProto, inputs: Sequence[Any], position: int, name: str) -> Any:
    """An operand that older opsets hold as an attribute and newer ones as an input."""
    if len(inputs) > position and inputs[position] is not None:
        return inputs[position]
    return attribute(node, name)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return np.divide(a, b)


def _require_small(count: int) -> None:
    if count > LARGEST:
        raise ValueError("the result is large")


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


def _unsqueeze(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    axes = as_ints(operand(node, x, 1, "axes"))
    rank = x[0].ndim + len(axes)
    out: np.ndarray = x[0]
    for axis in sorted(a % rank for a in axes):
        out = np.expand_dims(out, axis)
    return out


def _squeeze(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    axes = operand(node, x, 1, "axes")
    return np.squeeze(x[0], axis=None if axes is None else tuple(as_ints(axes)))


def _flatten(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    axis, dims = attribute(node, "axis", 1), x[0].shape
    return np.reshape(x[0], (math.prod(dims[:axis]), math.prod(dims[axis:])))


def _reshape(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    shape = as_ints(x[1])
    if not attribute(node, "allowzero", 0):
        shape = [x[0].shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return np.reshape(x[0], shape)


def _expand(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(x.shape, tuple(as_ints(lengths)))
    _require_small(math.prod(shape))
    return np.broadcast_to(x, shape)


def _tile(x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    _require_small(x.size * math.prod(as_ints(repeats)))
    return np.tile(x, as_ints(repeats))


def _constant_of_shape(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    shape = as_ints(x[0])
    _require_small(math.prod(shape))
    fill = attribute(node, "value")
    value = onnx.numpy_helper.to_array(fill).reshape(-1)[0] if fill is not None else np.float32(0)
    return np.full(shape, value)


def _range(*bounds: np.ndarray) -> np.ndarray:
    start, limit, step = (v.item() for v in bounds)
    count = max(0, int(np.ceil((limit - start) / step)))
    _require_small(count)
    return (start + np.arange(count) * step).astype(bounds[0].dtype)


_REDUCERS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


def _reduce(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    if not np.issubdtype(x[0].dtype, np.integer):
        raise TypeError("only integers reduce exactly")
    axes = operand(node, x, 1, "axes")
    if axes is None and attribute(node, "noop_with_empty_axes", 0):
        return np.asarray(x[0])
    over = tuple(as_ints(axes)) if axes is not None and np.size(axes) else None
    keep = bool(attribute(node, "keepdims", 1))
    return np.asarray(_REDUCERS[node.op_type](x[0], axis=over, keepdims=keep)).astype(x[0].dtype)


def _split(node: onnx.NodeProto, x: Sequence[Any]) -> list[np.ndarray]:
    axis, parts = attribute(node, "axis", 0), operand(node, x, 1, "split")
    length = x[0].shape[axis]
    if parts is None:
        size = -(-length // len(node.output))
        return np.split(x[0], list(range(size, length, size)), axis=axis)
    return np.split(x[0], np.cumsum(as_ints(parts))[:-1], axis=axis)


def _cum_sum(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    if attribute(node, "exclusive", 0) or attribute(node, "reverse", 0):
        raise TypeError("only the plain form is evaluated")
    return np.cumsum(x[0], axis=int(x[1].item()), dtype=x[0].dtype)


_PLAIN: dict[str, Callable[..., np.ndarray]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Div": _divide,
    "Equal": np.equal,
    "Expand": _expand,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": np.asarray,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *x: reduce(np.maximum, x),
    "Min": lambda *x: reduce(np.minimum, x),
    "Mul": np.multiply,
    "Neg": np.negative,
    "NonZero": lambda x: np.array(np.nonzero(x), dtype=np.int64),
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Range": _range,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tile": _tile,
    "Where": np.where,
    "Xor": np.logical_xor,
}
"""Functions of the operands alone."""


def _alone(function: Callable[..., np.ndarray]) -> Evaluator:
    return lambda node, x: function(*x)


def _power(node: onnx.NodeProto, x: Sequence[Any]) -> np.ndarray:
    """Of integers, as far as ONNX Runtime is exact, which computes it in float64."""
    if x[0].dtype.kind not in "iu" or x[1].dtype.kind not in "iu" or (x[1] < 0).any():
        raise ValueError("not exact")
    if (np.abs(np.power(x[0].astype(np.float64), x[1].astype(np.float64))) > 2.0**53).any():
        raise ValueError("not exact")
    made: np.ndarray = np.power(x[0].astype(np.int64), x[1].astype(np.int64)).astype(x[0].dtype)
    return made


_EVALUATORS: dict[str, Evaluator] = {
    **{op: _alone(function) for op, function in _PLAIN.items()},
    "Cast": lambda node, x: x[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attribute(node, "to"))),
    "Concat": lambda node, x: np.concatenate(list(x), axis=attribute(node, "axis", 0)),
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cum_sum,
    "Flatten": _flatten,
    "Gather": lambda node, x: np.take(x[0], x[1], axis=attribute(node, "axis", 0)),
    "Mod": lambda node, x: (np.fmod if attribute(node, "fmod", 0) else np.mod)(x[0], x[1]),
    "Pow": _power,
    "Reshape": _reshape,
    "Slice": lambda node, x: x[0][slices(node, x, x[0].ndim)],
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": lambda node, x: np.transpose(x[0], attribute(node, "perm")),
    "Unsqueeze": _unsqueeze,
    **dict.fromkeys(_REDUCERS, _reduce),
}
