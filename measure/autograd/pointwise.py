"""Operators that work number by number, or reduce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from .call import OPERATORS, Operands, Step, Unsupported, made_of, runs, step

Tensor = torch.Tensor
_NAMED = """
Abs Acos Acosh Add Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Greater IsNaN Less Log MatMul Mul Neg Reciprocal Relu
Round Sigmoid Sign Sin Sinh Sqrt Sub Tan Tanh Where
"""
"""Those that torch has under the same name and with the same definition."""


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def largest_of(*tensors: Tensor) -> Tensor:
    found = tensors[0]
    for one in tensors[1:]:
        found = torch.maximum(found, one)
    return found


def smallest_of(*tensors: Tensor) -> Tensor:
    found = tensors[0]
    for one in tensors[1:]:
        found = torch.minimum(found, one)
    return found


def sum_of(*tensors: Tensor) -> Tensor:
    found = tensors[0]
    for one in tensors[1:]:
        found = found + one
    return found


def mean_of(*tensors: Tensor) -> Tensor:
    return sum_of(*tensors) / len(tensors)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def swish(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Towards zero of whole numbers."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def cast(x: Tensor, kind: torch.dtype) -> Tensor:
    return x.to(kind)


def cast_like(x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


OPERATORS.update(
    {
        **{name: made_of(getattr(torch, name.lower())) for name in _NAMED.split()},
        **{name: made_of(getattr(torch, f"logical_{name.lower()}")) for name in ("And", "Not", "Or", "Xor")},
        "CastLike": made_of(cast_like),
        "Celu": made_of(F.celu, alpha=1.0),
        "Div": made_of(quotient),
        "Elu": made_of(F.elu, alpha=1.0),
        "Equal": made_of(torch.eq),
        "GreaterOrEqual": made_of(torch.ge),
        "HardSigmoid": made_of(hard_sigmoid, alpha=0.2, beta=0.5),
        "HardSwish": made_of(F.hardswish),
        "Identity": made_of(torch.clone),
        "LeakyRelu": made_of(F.leaky_relu, alpha=0.01),
        "LessOrEqual": made_of(torch.le),
        "LogSoftmax": made_of(torch.log_softmax, axis=-1),
        "Max": made_of(largest_of),
        "Mean": made_of(mean_of),
        "Min": made_of(smallest_of),
        "Mish": made_of(F.mish),
        "PRelu": made_of(prelu),
        "Pow": made_of(power),
        "Selu": made_of(selu, alpha=1.6732632423543772, gamma=1.0507009873554805),
        "Softmax": made_of(torch.softmax, axis=-1),
        "Softplus": made_of(F.softplus),
        "Softsign": made_of(F.softsign),
        "Sum": made_of(sum_of),
        "Swish": made_of(swish, alpha=1.0),
    }
)


@runs("Gelu", "com.microsoft:Gelu")
def gelu(c: Operands) -> Step:
    return step(F.gelu, c[0], approximate=c.attr("approximate", "none"))


@runs("ThresholdedRelu")
def thresholded_relu(c: Operands) -> Step:
    return step(F.threshold, c[0], c.attr("alpha", 1.0), 0.0)


@runs("Mod")
def remainder(c: Operands) -> Step:
    return step(torch.fmod if c.attr("fmod", 0) else torch.remainder, *c.all)


@runs("Clip")
def clip(c: Operands) -> Step:
    if not c.has(1) and not c.has(2):
        return step(torch.clone, c[0])
    return step(torch.clamp, c[0], c.limit(1), c.limit(2))


@runs("Dropout")
def dropout(c: Operands) -> Step:
    if c.has(2) and np.any(c.array(2)):
        raise Unsupported("it is in training mode")
    return step(torch.clone, c[0])


@runs("Cast")
def to_type(c: Operands) -> Step:
    return step(cast, c[0], c.kind(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(c.attr("to")))))


def all_axes(x: Tensor, axes: list[int] | None) -> list[int]:
    return [a % x.ndim for a in axes or range(x.ndim)]


def reduce_l1(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.abs().sum(all_axes(x, axes), keep)


def reduce_l2(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x, 2, all_axes(x, axes), keep)
    return size


def reduce_log_sum(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.sum(all_axes(x, axes), keep).log()


def reduce_log_sum_exp(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.logsumexp(all_axes(x, axes), keep)


def reduce_max(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.amax(all_axes(x, axes), keep)


def reduce_mean(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.mean(all_axes(x, axes), keep)


def reduce_min(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.amin(all_axes(x, axes), keep)


def reduce_prod(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    for axis in sorted(all_axes(x, axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def reduce_sum(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.sum(all_axes(x, axes), keep)


def reduce_sum_square(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
    return x.square().sum(all_axes(x, axes), keep)


_REDUCERS: dict[str, Callable[[Tensor, list[int] | None, bool], Tensor]] = {
    "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2,
    "ReduceLogSum": reduce_log_sum,
    "ReduceLogSumExp": reduce_log_sum_exp,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "ReduceProd": reduce_prod,
    "ReduceSum": reduce_sum,
    "ReduceSumSquare": reduce_sum_square,
}


@runs(*_REDUCERS)
def reducing(c: Operands) -> Step:
    axes = c.ints(1, "axes")
    if not axes and c.attr("noop_with_empty_axes", 0):
        return step(torch.clone, c[0])
    return step(_REDUCERS[c.node.op_type], c[0], axes, bool(c.attr("keepdims", 1)))


@runs("ArgMax", "ArgMin")
def arg_extreme(c: Operands) -> Step:
    if c.attr("select_last_index", 0):
        raise Unsupported("select_last_index is set")
    find = torch.argmax if c.node.op_type == "ArgMax" else torch.argmin
    return step(find, c[0], c.attr("axis", 0), bool(c.attr("keepdims", 1)))


@runs("TopK")
def largest_few(c: Operands) -> Step:
    order = (c.attr("axis", -1), bool(c.attr("largest", 1)), bool(c.attr("sorted", 1)))
    return Step(torch.topk, [c[0], c.number(1, 1), *order], results=2)


def running_sum(x: Tensor, axis: int, backward: bool, exclusive: bool) -> Tensor:
    turned = x.flip(axis) if backward else x
    summed = turned.cumsum(axis) - (turned if exclusive else 0)
    return summed.flip(axis) if backward else summed


@runs("CumSum")
def cumulative_sum(c: Operands) -> Step:
    return step(running_sum, c[0], c.number(1, 0), bool(c.attr("reverse", 0)), bool(c.attr("exclusive", 0)))
