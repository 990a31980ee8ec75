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

from .call import OPERATORS, Call, Unsupported, made_of, runs

Tensor = torch.Tensor
_NAMED = """
Abs Acos Acosh Add Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Greater IsNaN Less Log MatMul Mul Neg Reciprocal Relu
Round Sigmoid Sign Sin Sinh Sqrt Sub Tan Tanh Where
"""
"""Those that torch has under the same name and with the same definition."""
OPERATORS.update(
    {
        **{name: made_of(getattr(torch, name.lower())) for name in _NAMED.split()},
        **{name: made_of(getattr(torch, f"logical_{name.lower()}")) for name in ("And", "Not", "Or", "Xor")},
        "Celu": made_of(F.celu, alpha=1.0),
        "Elu": made_of(F.elu, alpha=1.0),
        "Equal": made_of(torch.eq),
        "Gelu": made_of(F.gelu, approximate="none"),
        "GlobalAveragePool": made_of(lambda x: x.mean(list(range(2, x.ndim)), keepdim=True)),
        "GlobalMaxPool": made_of(lambda x: x.amax(list(range(2, x.ndim)), keepdim=True)),
        "GreaterOrEqual": made_of(torch.ge),
        "HardSigmoid": made_of(lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1), alpha=0.2, beta=0.5),
        "HardSwish": made_of(F.hardswish),
        "Identity": made_of(torch.clone),
        "LeakyRelu": made_of(lambda x, alpha: F.leaky_relu(x, alpha), alpha=0.01),
        "LessOrEqual": made_of(torch.le),
        "LogSoftmax": made_of(lambda x, axis: torch.log_softmax(x, axis), axis=-1),
        "Max": made_of(lambda *tensors: reduce(torch.maximum, tensors)),
        "Mean": made_of(lambda *tensors: reduce(torch.add, tensors) / len(tensors)),
        "Min": made_of(lambda *tensors: reduce(torch.minimum, tensors)),
        "Mish": made_of(F.mish),
        "Mod": made_of(lambda a, b, fmod: torch.fmod(a, b) if fmod else torch.remainder(a, b), fmod=0),
        "PRelu": made_of(lambda x, slope: torch.where(x < 0, x * slope, x)),
        "Pow": made_of(lambda base, exponent: torch.pow(base, exponent).to(base.dtype)),
        "Softmax": made_of(lambda x, axis: torch.softmax(x, axis), axis=-1),
        "Softplus": made_of(F.softplus),
        "Softsign": made_of(F.softsign),
        "Sum": made_of(lambda *tensors: reduce(torch.add, tensors)),
        "Swish": made_of(lambda x, alpha: x * torch.sigmoid(alpha * x), alpha=1.0),
        "ThresholdedRelu": made_of(lambda x, alpha: F.threshold(x, alpha, 0.0), alpha=1.0),
        "com.microsoft:Gelu": made_of(F.gelu, approximate="none"),
    }
)


@runs("Div")
def div(c: Call) -> Tensor:
    a, b = c.tensors
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@runs("Clip")
def clip(c: Call) -> Tensor:
    low, high = c.optional(1), c.optional(2)
    return c.tensor().clone() if low is None and high is None else torch.clamp(c.tensor(), low, high)


@runs("Dropout")
def dropout(c: Call) -> Tensor:
    if c.has(2) and np.any(c.array(2)):
        raise Unsupported("it is in training mode")
    return c.tensor().clone()


@runs("Selu")
def selu(c: Call) -> Tensor:
    x, alpha = c.tensor(), c.attr("alpha", 1.6732632423543772)
    return c.attr("gamma", 1.0507009873554805) * torch.where(x > 0, x, alpha * torch.expm1(x))


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
    "ReduceProd": lambda x, axes, keep: reduce(lambda y, a: y.prod(a, keepdim=keep), sorted(axes, reverse=True), x),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


@runs(*_REDUCERS)
def reducing(c: Call) -> Tensor:
    x, axes = c.tensor(), c.ints(1, "axes")
    if not axes and c.attr("noop_with_empty_axes", 0):
        return x.clone()
    over = [a % x.ndim for a in axes or range(x.ndim)]
    return _REDUCERS[c.node.op_type](x, over, bool(c.attr("keepdims", 1)))


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
    if c.training:
        kept = c.attr("momentum", 0.9)
        return F.batch_norm(x, average, variance, scale, shift, True, 1 - kept, c.attr("epsilon", 1e-5))
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
