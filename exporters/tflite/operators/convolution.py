"""Convolutions: weights by output channel, then position, then input channel; inputs with channels last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Plan, Step
from ..program import Kind, Scales, Tensor, channels_last, shaped
from ..table import Refused, converts
from .windows import VALID, padded, window


@dataclass(frozen=True)
class _Plane:
    """A convolution along one axis is one along two, the first of length 1."""

    x: Tensor
    shape: tuple[int, ...]

    @staticmethod
    def of(x: Tensor, out: tuple[int, ...], make: Builder) -> _Plane:
        if x.rank == 4:
            return _Plane(x, out)
        if x.rank != 3:
            raise Refused(f"it slides along {x.rank - 2} axes", "only one and two are supported")
        return _Plane(make.reshape(x, (x.shape[0], 1, *x.shape[1:])), (out[0], 1, *out[1:]))


def bias_of(name: str, width: int, x: Tensor, weight: Tensor, make: Builder, part: slice = slice(None)) -> Tensor:
    """The bias as the kernel wants it: of integers, with the scale of the products; ``part`` of a constant one."""
    known = make.known(name) if name else np.zeros(width, np.float32)
    if known is None:
        return make.read(name)
    value = np.broadcast_to(np.asarray(known, np.float32).reshape(-1), (width,))[part]
    if not make.step.integer or x.kind.scales is None or weight.kind.scales is None:
        return make.constant(value, name=name)
    scale = x.kind.scales.scale.reshape(()) * weight.kind.scales.scale.reshape(-1)
    wide = np.dtype(np.int64 if x.kind.dtype == np.int16 else np.int32)
    return make.constant(value, Kind(wide, Scales(scale, np.zeros(scale.shape, np.int64))), name)


def _of_integers(node: onnx.NodeProto, plan: Plan) -> bool:
    """Whether the kernel takes the integers of the weights, and the bias is a constant."""
    bias = node.input[2] if len(node.input) > 2 else ""
    return plan.is_symmetric(node.input[1]) and (not bias or plan.value(bias) is not None)


@converts("Conv", integer=_of_integers, fuses=True)
def conv(step: Step, make: Builder) -> None:
    """Shapes: x (N, C, H, W), weight (M, C/groups, KH, KW)."""
    name, weights = step.operand(0), step.operand(1)
    dims, order = make.dims(name), channels_last(len(make.dims(name)))
    out = shaped(make.dims(step.output), order)
    found = window(step.node, dims, make.dims(weights)[2:], make.dims(step.output))
    x = make.read(name, order)
    x, padding = padded(x, found, make)
    plane = _Plane.of(x, out, make)
    group = attribute(step.node, "group", 1)
    depthwise = group == dims[1] > 1
    weight = _kernel(weights, depthwise, make)
    bias = bias_of(step.operand(2), out[-1], x, weight, make)
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    options = {**found.options(), **({"depthMultiplier": out[-1] // dims[1]} if depthwise else {})}
    made = make.emit(code, [plane.x, weight, bias], plane.shape, None, step.act, padding=padding, **options)
    make.give(make.reshape(made, out), order)


def _kernel(name: str, depthwise: bool, make: Builder) -> Tensor:
    """Weights (M, KH, KW, C), of depthwise convolutions (1, KH, KW, M)."""
    rank = len(make.dims(name))
    order = (1, *range(2, rank), 0) if depthwise else (0, *range(2, rank), 1)
    held = make.read(name, order)
    return held if rank == 4 else make.reshape(held, (held.shape[0], 1, *held.shape[1:]))


@converts("ConvTranspose", integer=_of_integers)
def conv_transpose(step: Step, make: Builder) -> None:
    """Every group by itself; what padding takes away is cut off where the operator cannot do it.

    Shapes: x (N, C, H, W), weight (C, M/groups, KH, KW); along one axis as along two, the first of length 1.
    """
    name, weights, group = step.operand(0), step.operand(1), attribute(step.node, "group", 1)
    dims, order = make.dims(name), channels_last(len(make.dims(name)))
    kernel, given = make.dims(weights), shaped(make.dims(step.output), order)
    plane = _Plane.of(make.read(name, order), given, make)
    x, out, flat = plane.x, plane.shape, [1] * (4 - len(dims))
    weight = make.read(weights, (*range(1, len(dims)), 0))
    weight = make.reshape(weight, (weight.shape[0], *flat, *weight.shape[1:])) if flat else weight
    weight = _spread(weight, flat + (attribute(step.node, "dilations", None) or [1] * (len(dims) - 2)))
    strides = flat + attribute(step.node, "strides", [1] * (len(dims) - 2))
    parts = []
    for number in range(group):
        inner = _part(x, number, group, 3, make), _part(weight, number, group, 3, make)
        own = slice(number * kernel[1], (number + 1) * kernel[1])
        bias = bias_of(step.operand(2), out[-1], *inner, make, own)
        parts.append(_transposed(step.node, *inner, bias, (*out[:3], kernel[1]), strides, make))
    made = parts[0] if group == 1 else make.emit("CONCATENATION", parts, out, act="NONE", axis=3)
    if step.act != "NONE":
        made = make.emit(step.act, [made], out)
    make.give(make.reshape(made, given), order)


def _spread(weight: Tensor, gaps: list[int]) -> Tensor:
    """A kernel with zeros in its gaps. Shapes: weight (M, KH, KW, C)."""
    if all(gap == 1 for gap in gaps):
        return weight
    if weight.data is None:
        raise Refused("it is dilated, with weights that are computed", "make them constants, in floats")
    lengths = [(k - 1) * gap + 1 for k, gap in zip(weight.shape[1:3], gaps, strict=True)]
    data = np.zeros((weight.shape[0], *lengths, weight.shape[3]), weight.kind.dtype)
    data[:, :: gaps[0], :: gaps[1]] = weight.data
    return Tensor(data.shape, weight.kind, weight.name, data)


def _part(tensor: Tensor, number: int, group: int, axis: int, make: Builder) -> Tensor:
    """The slice of an axis that belongs to a group."""
    if group == 1:
        return tensor
    length = tensor.shape[axis] // group
    shape = tuple(length if k == axis else n for k, n in enumerate(tensor.shape))
    begin = [number * length if k == axis else 0 for k in range(tensor.rank)]
    if tensor.data is not None:
        data = np.take(tensor.data, range(begin[axis], begin[axis] + length), axis)
        scales = tensor.kind.scales
        if scales is not None and scales.scale.size > 1 and scales.axis == axis:
            span = slice(begin[axis], begin[axis] + length)
            scales = Scales(scales.scale[span], scales.zero[span], axis)
        return Tensor(shape, Kind(tensor.kind.dtype, scales), "", data)
    operands = [tensor, make.constant(np.array(begin, np.int32)), make.constant(np.array(shape, np.int32))]
    return make.emit("SLICE", operands, shape, tensor.kind)


def _transposed(
    node: onnx.NodeProto,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    out: tuple[int, ...],
    strides: list[int],
    make: Builder,
) -> Tensor:
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], strides, weight.shape[1:3], strict=True)]
    begin = _cut(node, full, out[1:3])
    size = [max(n, b + w) for n, b, w in zip(full, begin, out[1:3], strict=True)]
    whole = (out[0], *size, out[3])
    operands = [make.constant(np.array(whole, np.int32)), weight, x, bias]
    made = make.emit(
        "TRANSPOSE_CONV", operands, whole, act="NONE", padding=VALID, strideH=strides[0], strideW=strides[1]
    )
    if whole == out:
        return made
    spans = [make.constant(np.array(v, np.int32)) for v in ((0, *begin, 0), out)]
    return make.emit("SLICE", [made, *spans], out, made.kind)


def _cut(node: onnx.NodeProto, full: list[int], out: tuple[int, ...]) -> list[int]:
    """How much goes at each beginning: none of an axis that the node does not have."""
    total = [f - o for f, o in zip(full, out, strict=True)]
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "NOTSET" and attribute(node, "output_shape", None) is None:
        pads = attribute(node, "pads", [0] * 4)
        return [0] * (len(full) - len(pads) // 2) + [int(p) for p in pads[: len(pads) // 2]]
    extra = attribute(node, "output_padding", [0] * len(full))
    extra = [0] * (len(full) - len(extra)) + extra
    total = [max(0, t + e) for t, e in zip(total, extra, strict=True)]
    return [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
