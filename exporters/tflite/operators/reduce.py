"""What takes axes together: reductions, Softmax, the places of extremes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from ....graph.evaluate import operand
from ....graph.nodes import as_ints, attribute
from ..builder import Builder
from ..plan import Step
from ..program import Kind, Order, Tensor, plain, shaped
from ..table import Refused, axis_of, converts
from .pointwise import pair, unary, unit_kind

SAME: Mapping[str, str] = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}
_SELECTS = ("REDUCE_MAX", "REDUCE_MIN")


def axes_of(step: Step, make: Builder) -> list[int] | None:
    """Axes of the ONNX tensor that a reduction takes together; None for none at all."""
    rank = len(make.dims(step.operand(0)))
    name = step.operand(1)
    if name and make.known(name) is None:
        raise Refused("its axes are computed", "make them constants")
    given = operand(step.node, [None, make.known(name) if name else None], 1, "axes")
    if given is None or not np.size(given):
        return None if attribute(step.node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in as_ints(given))


def reduced(code: str, x: Tensor, order: Order, axes: list[int], make: Builder, kind: Kind | None = None) -> Tensor:
    """Over ONNX axes of a tensor stored in an order; they stay, with length 1."""
    stored = sorted(order.index(axis) for axis in axes)
    shape = tuple(1 if k in stored else n for k, n in enumerate(x.shape))
    at = make.constant(np.array(stored, np.int32))
    return make.emit(code, [x, at], shape, kind or x.kind, keepDims=True)


def finish(step: Step, made: Tensor, order: Order, axes: list[int], make: Builder) -> None:
    """Give what was reduced, its axes taken away unless they are to stay."""
    if attribute(step.node, "keepdims", 1):
        make.give(made, order)
        return
    kept = [axis for axis in order if axis not in axes]
    names = {axis: k for k, axis in enumerate(sorted(kept))}
    stored = tuple(names[axis] for axis in kept)
    make.give(make.reshape(made, shaped(make.dims(step.output), stored)), stored)


def _same(code: str, step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    axes = axes_of(step, make)
    if axes is None:
        make.give(x, order)
        return
    kind = x.kind if code in _SELECTS else make.wanted
    finish(step, reduced(code, x, order, axes, make, kind), order, axes, make)


for _name, _code in SAME.items():
    converts(_name, integer=_code in ("MEAN", *_SELECTS))(partial(_same, _code))


@converts("ReduceL1")
def reduce_l1(step: Step, make: Builder) -> None:
    _of_others(step, make, "ABS", "")


@converts("ReduceL2")
def reduce_l2(step: Step, make: Builder) -> None:
    _of_others(step, make, "SQUARE", "SQRT")


@converts("ReduceSumSquare")
def reduce_sum_square(step: Step, make: Builder) -> None:
    _of_others(step, make, "SQUARE", "")


@converts("ReduceLogSum")
def reduce_log_sum(step: Step, make: Builder) -> None:
    _of_others(step, make, "", "LOG")


def _of_others(step: Step, make: Builder, before: str, after: str) -> None:
    """A sum of one function, and another of that."""
    x, order = make.held(step.operand(0))
    axes = axes_of(step, make) or []
    made = unary(before, x, make) if before else x
    made = reduced("SUM", made, order, axes, make)
    finish(step, unary(after, made, make) if after else made, order, axes, make)


@converts("ReduceLogSumExp")
def reduce_log_sum_exp(step: Step, make: Builder) -> None:
    """The largest is taken off first, so that nothing overflows."""
    x, order = make.held(step.operand(0))
    axes = axes_of(step, make) or []
    most = reduced("REDUCE_MAX", x, order, axes, make)
    total = reduced("SUM", unary("EXP", pair("SUB", x, most, make), make), order, axes, make)
    finish(step, pair("ADD", unary("LOG", total, make), most, make), order, axes, make)


def _with_last(name: str, axis: int, make: Builder) -> tuple[Tensor, Order]:
    """A tensor with one ONNX axis stored last."""
    order = make.held(name)[1]
    wanted = (*(a for a in order if a != axis), axis)
    return make.read(name, wanted), wanted


@converts("Softmax", integer=True)
def softmax(step: Step, make: Builder) -> None:
    x, order = _with_last(step.operand(0), _axis(step, make), make)
    make.give(make.emit("SOFTMAX", [x], x.shape, unit_kind(step, x, -128), beta=1.0), order)


@converts("LogSoftmax")
def log_softmax(step: Step, make: Builder) -> None:
    x, order = _with_last(step.operand(0), _axis(step, make), make)
    make.give(make.emit("LOG_SOFTMAX", [x], x.shape), order)


def _axis(step: Step, make: Builder) -> int:
    return axis_of(step.node, len(make.dims(step.operand(0))), -1)


@converts("ArgMax")
def arg_max(step: Step, make: Builder) -> None:
    _extreme("ARG_MAX", step, make)


@converts("ArgMin")
def arg_min(step: Step, make: Builder) -> None:
    _extreme("ARG_MIN", step, make)


_INT64 = 4


def _extreme(code: str, step: Step, make: Builder) -> None:
    if attribute(step.node, "select_last_index", 0):
        raise Refused("it takes the last of equals", "take the first")
    x = make.read(step.operand(0))
    axis = axis_of(step.node, x.rank, 0)
    shape = tuple(n for k, n in enumerate(x.shape) if k != axis)
    made = make.emit(code, [x, make.constant(np.array(axis, np.int32))], shape, outputType=_INT64)
    make.give(make.reshape(made, make.dims(step.output)))


@converts("TopK")
def top_k(step: Step, make: Builder) -> None:
    """Along the last axis, the largest first."""
    rank, (count,) = len(make.dims(step.operand(0))), make.ints(step.operand(1))
    if not attribute(step.node, "largest", 1):
        raise Refused("it takes the smallest", "take the largest of the negative")
    axis = axis_of(step.node, rank, -1)
    order = (*(a for a in range(rank) if a != axis), axis)
    x = make.read(step.operand(0), order)
    places = Tensor((*x.shape[:-1], count), Kind(np.dtype(np.int32)))
    values = make.emit("TOPK_V2", [x, make.constant(np.array(count, np.int32))], places.shape, x.kind)
    make.program.ops[-1].outputs.append(places)
    make.give(values, order)
    if len(step.node.output) > 1 and step.node.output[1]:
        wide = make.emit("CAST", [places], places.shape, Kind(np.dtype(np.int64)))
        make.give(wide, order, 1)


@converts("LpNormalization")
def lp_normalization(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    axis, squares = _axis(step, make), attribute(step.node, "p", 2) == 2
    total = reduced("SUM", unary("SQUARE" if squares else "ABS", x, make), order, [axis], make)
    make.give(pair("DIV", x, unary("SQRT", total, make) if squares else total, make), order)


__all__ = ["axes_of", "plain", "reduced"]
