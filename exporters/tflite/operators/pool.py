"""Pooling: windows over channels-last tensors."""

from __future__ import annotations

import numpy as np
import onnx

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Plan, Step
from ..program import Tensor, channels_last, shaped
from ..table import Refused, converts
from .windows import Window, padded, surround, window


@converts("MaxPool", integer=True, fuses=True)
def max_pool(step: Step, make: Builder) -> None:
    """Padding is lower than all numbers."""
    if len([o for o in step.node.output if o]) > 1:
        raise Refused("its second output, where the largest were, has no form", "leave it out")
    _pool("MAX_POOL_2D", step, make, -np.inf)


def _even(node: onnx.NodeProto, plan: Plan) -> bool:
    """Whether the kernel divides by what ONNX divides by."""
    dims, out = (plan.shapes.dims.get(name, ()) for name in (node.input[0], node.output[0]))
    found = window(node, dims, attribute(node, "kernel_shape"), out)
    counted = bool(attribute(node, "count_include_pad", 0))
    return (found.same and not counted) or bool(np.all(_corrections(node, found, dims, out, counted) == 1))


@converts("AveragePool", integer=_even, fuses=True)
def average_pool(step: Step, make: Builder) -> None:
    """The operator averages over what lies in the input, which is what ONNX does unless told to count padding.

    Padding of its own choice is put around explicitly; what is not to be counted is then taken out by a factor for each
    place.
    """
    dims, out = make.dims(step.operand(0)), make.dims(step.output)
    found = _window(step, make)
    if found.lengths == found.sizes and not any((*found.begins, *found.ends)):
        _whole("MEAN", step, make)
        return
    counted = bool(attribute(step.node, "count_include_pad", 0))
    if not any((*found.begins, *found.ends)) or (found.same and not counted):
        _pool("AVERAGE_POOL_2D", step, make)
        return
    factor = _corrections(step.node, found, dims, out, counted)
    made, order = _pooled("AVERAGE_POOL_2D", step, make, 0.0, explicit=True, act="NONE"), channels_last(len(out))
    if np.all(factor == 1):
        if step.act != "NONE":
            made = make.emit(step.act, [made], made.shape, made.kind)
        make.give(made, order)
        return
    make.give(make.emit("MUL", [made, make.constant(factor)], made.shape, act=step.act), order)


def _corrections(
    node: onnx.NodeProto, found: Window, dims: tuple[int, ...], out: tuple[int, ...], counted: bool
) -> np.ndarray:
    """All of a window over what ONNX divides by. Shapes: (1, OH, OW, 1)."""
    pads = attribute(node, "pads", None) or [0] * 2 * (len(dims) - 2)
    ends = pads[len(dims) - 2 :]
    made = np.ones((), np.float64)
    for axis, (k, s, begin) in enumerate(zip(found.lengths, found.strides, found.begins, strict=True)):
        start = np.arange(out[axis + 2]) * s - begin
        low, high = (-begin, dims[axis + 2] + ends[axis]) if counted else (0, dims[axis + 2])
        inside = np.minimum(start + k, high) - np.maximum(start, low)
        made = np.multiply.outer(made, k / inside)
    return np.asarray(made[None, ..., None], np.float32)


def _window(step: Step, make: Builder) -> Window:
    return window(step.node, make.dims(step.operand(0)), attribute(step.node, "kernel_shape"), make.dims(step.output))


def _pool(code: str, step: Step, make: Builder, fill: float = 0.0) -> None:
    make.give(_pooled(code, step, make, fill), channels_last(len(make.dims(step.output))))


def _pooled(
    code: str, step: Step, make: Builder, fill: float, *, explicit: bool = False, act: str | None = None
) -> Tensor:
    dims, found = make.dims(step.operand(0)), _window(step, make)
    if len(dims) not in (3, 4):
        raise Refused(f"it slides along {len(dims) - 2} axes", "only one and two are supported")
    if any(d != 1 for d in found.dilations):
        raise Refused("its windows have gaps", "use windows without dilation")
    order = channels_last(len(dims))
    x, out = make.read(step.operand(0), order), shaped(make.dims(step.output), order)
    if explicit:
        x, padding = surround(x, [(0, 0), *found.padding, (0, 0)], make), 1
    else:
        x, padding = padded(x, found, make, fill)
    full, lengths = out, found.lengths
    if len(dims) == 3:
        x, full, lengths = make.reshape(x, (x.shape[0], 1, *x.shape[1:])), (out[0], 1, *out[1:]), (1, *lengths)
    sizes = {"filterHeight": lengths[0], "filterWidth": lengths[1]}
    strides = {key: value for key, value in found.options().items() if key.startswith("stride")}
    made = make.emit(code, [x], full, x.kind, act or step.act, padding=padding, **sizes, **strides)
    return make.reshape(made, out)


@converts("GlobalAveragePool", integer=True)
def global_average_pool(step: Step, make: Builder) -> None:
    _whole("MEAN", step, make)


@converts("GlobalMaxPool", integer=True)
def global_max_pool(step: Step, make: Builder) -> None:
    _whole("REDUCE_MAX", step, make)


def _whole(code: str, step: Step, make: Builder) -> None:
    """Over all places of each channel."""
    rank = len(make.dims(step.operand(0)))
    order = channels_last(rank)
    x, out = make.read(step.operand(0), order), shaped(make.dims(step.output), order)
    axes = make.constant(np.arange(1, rank - 1, dtype=np.int32))
    kind = x.kind if code == "REDUCE_MAX" else None
    made = make.emit(code, [x, axes], out, kind, keepDims=True)
    make.give(made if step.act == "NONE" else make.emit(step.act, [made], out), order)
