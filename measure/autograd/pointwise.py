"""Operators that work number by number, reduce or normalize."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from .call import OPERATORS, Call, Unsupported, runs

Tensor = torch.Tensor
_ALIKE: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Add": torch.add,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
    "Identity": torch.clone,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mish": F.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
"""Those that torch has under the same definition."""


def _alike(function: Callable[..., Tensor]) -> Callable[[Call], Tensor]:
    return lambda c: function(*c.tensors)


def _folding(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda c: reduce(function, c.tensors)


OPERATORS.update({name: _alike(function) for name, function in _ALIKE.items()})
_FOLDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}
OPERATORS.update({name: _folding(function) for name, function in _FOLDED.items()})


@runs("Mean")
def mean(c: Call) -> Tensor:
    return reduce(torch.add, c.tensors) / len(c.tensors)


@runs("Div")
def div(c: Call) -> Tensor:
    a, b = c.tensors
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@runs("Mod")
def mod(c: Call) -> Tensor:
    return (torch.fmod if c.attr("fmod", 0) else torch.remainder)(*c.tensors)


@runs("Pow")
def power(c: Call) -> Tensor:
    base, exponent = c.tensors
    return torch.pow(base, exponent).to(base.dtype)


@runs("Clip")
def clip(c: Call) -> Tensor:
    low, high = c.optional(1), c.optional(2)
    return c.tensor().clone() if low is None and high is None else torch.clamp(c.tensor(), low, high)


@runs("Dropout")
def dropout(c: Call) -> Tensor:
    if c.has(2) and np.any(c.array(2)):
        raise Unsupported("it is in training mode")
    return c.tensor().clone()


@runs("Elu")
def elu(c: Call) -> Tensor:
    return F.elu(c.tensor(), c.attr("alpha", 1.0))


@runs("Celu")
def celu(c: Call) -> Tensor:
    return F.celu(c.tensor(), c.attr("alpha", 1.0))


@runs("Selu")
def selu(c: Call) -> Tensor:
    x, alpha = c.tensor(), c.attr("alpha", 1.6732632423543772)
    return c.attr("gamma", 1.0507009873554805) * torch.where(x > 0, x, alpha * torch.expm1(x))


@runs("LeakyRelu")
def leaky_relu(c: Call) -> Tensor:
    return F.leaky_relu(c.tensor(), c.attr("alpha", 0.01))


@runs("PRelu")
def prelu(c: Call) -> Tensor:
    x, slope = c.tensors
    return torch.where(x < 0, x * slope, x)


@runs("ThresholdedRelu")
def thresholded_relu(c: Call) -> Tensor:
    return F.threshold(c.tensor(), c.attr("alpha", 1.0), 0.0)


@runs("HardSigmoid")
def hard_sigmoid(c: Call) -> Tensor:
    return torch.clamp(c.attr("alpha", 0.2) * c.tensor() + c.attr("beta", 0.5), 0, 1)


@runs("Gelu", "com.microsoft:Gelu")
def gelu(c: Call) -> Tensor:
    return F.gelu(c.tensor(), approximate=c.attr("approximate", "none"))


@runs("Swish")
def swish(c: Call) -> Tensor:
    return c.tensor() * torch.sigmoid(c.attr("alpha", 1.0) * c.tensor())


@runs("Softmax")
def softmax(c: Call) -> Tensor:
    return torch.softmax(c.tensor(), c.attr("axis", -1))


@runs("LogSoftmax")
def log_softmax(c: Call) -> Tensor:
    return torch.log_softmax(c.tensor(), c.attr("axis", -1))


@runs("Cast", "CastLike")
def cast(c: Call) -> Tensor:
    """All floats are one type here; numbers that a narrower one would round keep their digits."""
    if c.node.op_type == "CastLike":
        return c.tensor().to(c.tensor(1).dtype)
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(c.attr("to")))
    if kind.kind in "fV":
        return c.tensor().to(c.dtype)
    if kind.kind not in "biu":
        raise Unsupported(f"it makes {kind} of numbers")
    return c.tensor().to(torch.from_numpy(np.zeros(0, kind)).dtype)


_REDUCERS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keep),
    "ReduceProd": lambda x, axes, keep: _product(x, axes, keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def reducing(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Call], Tensor]:
    def over(c: Call) -> Tensor:
        x, axes = c.tensor(), c.ints(1, "axes")
        if not axes and c.attr("noop_with_empty_axes", 0):
            return x.clone()
        return function(x, axes or list(range(x.ndim)), bool(c.attr("keepdims", 1)))

    return over


OPERATORS.update({name: reducing(function) for name, function in _REDUCERS.items()})


@runs("ArgMax", "ArgMin")
def arg_extreme(c: Call) -> Tensor:
    if c.attr("select_last_index", 0):
        raise Unsupported("select_last_index is set")
    find = torch.argmax if c.node.op_type == "ArgMax" else torch.argmin
    return find(c.tensor(), c.attr("axis", 0), bool(c.attr("keepdims", 1)))


@runs("CumSum")
def cumulative_sum(c: Call) -> Tensor:
    x, (axis,) = c.tensor(), c.ints(1) or [0]
    turned = x.flip(axis) if c.attr("reverse", 0) else x
    summed = turned.cumsum(axis) - (turned if c.attr("exclusive", 0) else 0)
    return summed.flip(axis) if c.attr("reverse", 0) else summed


def standardized(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    variance, average = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - average) / torch.sqrt(variance + epsilon)


def _along(value: Tensor, x: Tensor) -> Tensor:
    """One number a channel, to go with axis 1."""
    return value.reshape(-1, *[1] * (x.ndim - 2))


@runs("BatchNormalization")
def batch_normalization(c: Call) -> Tensor:
    if c.attr("training_mode", 0):
        raise Unsupported("it is in training mode")
    x, scale, shift, average, variance = c.tensors
    gain = scale / torch.sqrt(variance + c.attr("epsilon", 1e-5))
    return x * _along(gain, x) + _along(shift - average * gain, x)


@runs("LayerNormalization")
def layer_normalization(c: Call) -> Tensor:
    x, axis = c.tensor(), c.attr("axis", -1)
    made = standardized(x, list(range(axis % x.ndim, x.ndim)), c.attr("epsilon", 1e-5)) * c.tensor(1)
    return made + c.tensor(2) if c.has(2) else made


@runs("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(c: Call) -> Tensor:
    x, axis = c.tensor(), c.attr("axis", -1)
    size = x.square().mean(list(range(axis % x.ndim, x.ndim)), keepdim=True)
    return x / torch.sqrt(size + c.attr("epsilon", 1e-5)) * c.tensor(1)


@runs("InstanceNormalization")
def instance_normalization(c: Call) -> Tensor:
    x, scale, shift = c.tensors
    made = standardized(x, list(range(2, x.ndim)), c.attr("epsilon", 1e-5))
    return made * _along(scale, x) + _along(shift, x)


@runs("GroupNormalization")
def group_normalization(c: Call) -> Tensor:
    x, scale, shift = c.tensors
    groups = c.attr("num_groups")
    made = standardized(x.reshape(len(x), groups, -1), [2], c.attr("epsilon", 1e-5)).reshape(x.shape)
    repeat = 1 if len(scale) == x.shape[1] else x.shape[1] // groups  # before operator set 21 one number a group
    return made * _along(scale.repeat_interleave(repeat), x) + _along(shift.repeat_interleave(repeat), x)


@runs("LpNormalization")
def lp_normalization(c: Call) -> Tensor:
    x = c.tensor()
    size: Any = torch.linalg.vector_norm(x, c.attr("p", 2), c.attr("axis", -1), keepdim=True)
    return torch.where(size == 0, torch.zeros_like(x), x / size)


@runs("LRN")
def local_response_normalization(c: Call) -> Tensor:
    x, size = c.tensor(), c.attr("size")
    before = (size - 1) // 2
    squares = F.pad(x.square().reshape(*x.shape[:2], prod(x.shape[2:])), (0, 0, before, size - 1 - before))
    summed = squares.unfold(1, size, 1).sum(-1).reshape(x.shape)
    return x / (c.attr("bias", 1.0) + c.attr("alpha", 1e-4) / size * summed) ** c.attr("beta", 0.75)
