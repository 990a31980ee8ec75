"""Products of matrices: by a constant, which a fully connected operator does, and of two activations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Plan, Step
from ..program import FLOAT, Order, Tensor, plain
from ..table import converts
from .convolution import bias_of


def _plain(node: onnx.NodeProto, plan: Plan) -> bool:
    """Whether integers may be multiplied as they are, and the bias is one number for each column."""
    scaled = attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1
    bias = plan.value(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    width = plan.shapes.dims.get(node.output[0], (0, 0))[1]
    return not scaled and plan.is_symmetric(node.input[1]) and bias is not None and bias.shape in _rows(width)


def _rows(width: int) -> tuple[tuple[int, ...], ...]:
    return (1,), (width,), (1, width)


@converts("Gemm", integer=_plain, fuses=True)
def gemm(step: Step, make: Builder) -> None:
    """Shapes: A (M, K), B (K, N), C stretched to (M, N)."""
    a, b, c = (step.operand(k) for k in range(3))
    alpha, beta = attribute(step.node, "alpha", 1.0), attribute(step.node, "beta", 1.0)
    x = make.read(a, (1, 0) if attribute(step.node, "transA", 0) else (0, 1))
    weight = make.read(b, (0, 1) if attribute(step.node, "transB", 0) else (1, 0))
    if alpha != 1:
        weight = _times(weight, alpha, make)
    out = make.dims(step.output)
    known = make.known(c) if c else np.zeros(1)
    vector = known is not None and known.shape in _rows(out[1])
    if vector and (beta == 1 or not c):
        make.give(connected(x, weight, c, out, make))
        return
    made = connected(x, weight, "", out, replace_act(make))
    operand = _times(make.aligned(c, plain(2)), beta, make) if beta != 1 else make.aligned(c, plain(2))
    make.give(make.emit("ADD", [made, operand], out, act=step.act))


def replace_act(make: Builder) -> Builder:
    """The rectifier is left to who comes after."""
    make.step = replace(make.step, act="NONE")
    return make


def _times(x: Tensor, factor: float, make: Builder) -> Tensor:
    if x.data is not None:
        return make.constant((x.data * np.float32(factor)).astype(np.float32), name=x.name)
    return make.emit("MUL", [x, make.number(factor)], x.shape, FLOAT, act="NONE")


def connected(x: Tensor, weight: Tensor, bias: str, out: tuple[int, ...], make: Builder) -> Tensor:
    """Rows of x times a weight (N, K)."""
    offset = bias_of(bias, out[-1], x, weight, make)
    return make.emit(
        "FULLY_CONNECTED", [x, weight, offset], out, act=make.step.act, keepNumDims=x.rank > 2, weightsFormat=0
    )


def _of_integers(node: onnx.NodeProto, plan: Plan) -> bool:
    """Products by a matrix or a vector take a scale for each column, those of stacks one for all."""
    a, b = node.input
    by_column = plan.value(b) is not None and len(plan.shapes.dims.get(b, (1,) * 3)) < 3
    return plan.is_symmetric(b) if by_column else all(map(plan.has_one_scale, (a, b)))


@converts("MatMul", integer=_of_integers, fuses=True)
def matmul(step: Step, make: Builder) -> None:
    """Shapes: A (..., M, K), B (..., K, N). Either may be transposed where it is stored so."""
    a, b = step.operand(0), step.operand(1)
    out, shapes = make.dims(step.output), (make.dims(a), make.dims(b))
    if make.known(b) is not None and len(shapes[1]) < 3:
        make.give(_by_matrix(a, b, out, make))
        return
    if min(map(len, shapes)) < 2:
        make.give(_with_vectors(a, b, out, make))
        return
    (x, adj_x), (y, adj_y) = _matrix(a, make), _matrix(b, make)
    if x is y and not adj_y:  # LiteRT 2.3 multiplies a tensor by itself wrongly
        y, adj_y = make.read(b, _turned(y.rank)), True
    make.give(_rectified(make.emit("BATCH_MATMUL", [x, y], out, adjX=adj_x, adjY=adj_y), step.act, make))


def _by_matrix(a: str, b: str, out: tuple[int, ...], make: Builder) -> Tensor:
    """By a constant matrix or vector; a vector on the left is one row."""
    x, rank = make.read(a), len(make.dims(b))
    x = make.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    weight = make.read(b, (1, 0)) if rank == 2 else make.reshape(make.read(b), (1, *make.dims(b)))
    return make.reshape(connected(x, weight, make.step.bias, (*x.shape[:-1], weight.shape[0]), make), out)


def _rectified(made: Tensor, act: str, make: Builder) -> Tensor:
    return made if act == "NONE" else make.emit(act, [made], made.shape, made.kind)


def _turned(rank: int) -> Order:
    """The last two axes in turn."""
    return (*range(rank - 2), rank - 1, rank - 2)


def _matrix(name: str, make: Builder) -> tuple[Tensor, bool]:
    """A stack of matrices, and whether they are transposed."""
    turned = _turned(len(make.dims(name)))
    if make.known(name) is None and make.held(name)[1] == turned:
        return make.read(name, turned), True
    return make.read(name), False


def _with_vectors(a: str, b: str, out: tuple[int, ...], make: Builder) -> Tensor:
    x, y = make.read(a), make.read(b)
    x = make.reshape(x, (1, *x.shape)) if x.rank == 1 else x
    y = make.reshape(y, (*y.shape, 1)) if y.rank == 1 else y
    full = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    made = make.emit("BATCH_MATMUL", [x, y], full, adjX=False, adjY=False)
    return _rectified(make.reshape(made, out), make.step.act, make)
