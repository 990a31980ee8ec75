"""Weights as they stand in a model: how a layer's integers and scales are laid out in its tensor, and other weights.

Convolutions, Gemm and MatMul are ``Layer``s. A ``Place`` is any other constant whose numbers can be rounded by
themselves: transposed convolutions, recurrent layers, rows of tables, stacks of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx

from ...graph.layer import Layer
from ...graph.model import Model
from ...graph.nodes import attribute, is_standard
from .grid import CARRIERS, Floats, Grid, Quantized

LEAST_BLOCK = 8
"""Fewer weights under one scale of 32 bits are not worth it."""


@dataclass(frozen=True)
class Place:
    """Operand ``position`` of the node that makes ``node``; indices of ``axis`` are the rows that have scales."""

    node: str
    op: str
    weight: str
    position: int
    axis: int

    def matrix(self, weight: np.ndarray) -> Floats:
        """Shapes: -> (1, rows, columns)."""
        rows = np.moveaxis(np.asarray(weight, np.float64), self.axis, 0)
        return rows.reshape(1, len(rows), -1)


@dataclass(frozen=True)
class Laid:
    """What DequantizeLinear reads: integers in the weight's shape, scale and zero point along ``axis`` or in blocks."""

    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    axis: int
    block: int

    @property
    def bits(self) -> int:
        return next(bits for (bits, _), kind in CARRIERS.items() if self.integers.dtype == np.dtype(kind))

    @property
    def arrays(self) -> list[np.ndarray]:
        return [a for a in (self.integers, self.scale, self.zero) if a is not None]

    def once(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        """Integers, scales and float zero points that go together as they stand; None where a block is cut short."""
        shape, axis, length = self.integers.shape, self.axis, self.integers.shape[self.axis]
        if not self.block:
            beside = [1] * self.integers.ndim
            beside[axis] = length
            parts = [None if a is None else a.reshape(beside) for a in (self.scale, self.zero)]
            integers = self.integers
        elif length % self.block:
            return None
        else:
            integers = self.integers.reshape(*shape[:axis], -1, self.block, *shape[axis + 1 :])
            parts = [None if a is None else np.expand_dims(a, axis + 1) for a in (self.scale, self.zero)]
        scale, zero = parts
        assert scale is not None
        return integers, scale, None if zero is None else zero.astype(scale.dtype)

    def same(self, other: Laid) -> bool:
        """Whether it stands for the same tensor, number for number."""
        return (self.axis, self.block, len(self.arrays)) == (other.axis, other.block, len(other.arrays)) and all(
            a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(self.arrays, other.arrays, strict=True)
        )


def laid(where: Layer | Place, quantized: Quantized, weight: np.ndarray) -> Laid:
    """Raises ValueError where blocks do not fit the tensor: see ``fitting_block``."""
    axis, block = channel_axis(where), quantized.block
    lay: Callable[..., Any]
    integers = _integers(where, quantized.integers, weight.shape)
    alpha = where.alpha if isinstance(where, Layer) else 1.0
    if quantized.scale.shape[2] == 1:
        block, lay = 0, np.ravel
    elif fitting_block(where, weight.shape, block) == block:
        axis, lay = _summed_axis(where), partial(_blocks, where, shape=weight.shape)
    else:
        raise ValueError(f"blocks of {block} do not fit {where.op} {where.node!r} of shape {weight.shape}")
    scale = lay(quantized.scale / alpha)
    zero = None if quantized.zero is None else lay(quantized.zero)
    carrier = np.dtype(CARRIERS[carrier_bits(where, weight.shape, quantized.grid), quantized.grid.signed])
    kind = weight.dtype if weight.dtype in (np.float32, np.float16) else np.float32
    return Laid(
        integers.astype(np.int32).astype(carrier),
        np.ascontiguousarray(scale.astype(kind)),
        None if zero is None else np.ascontiguousarray(zero.astype(np.int32).astype(carrier)),
        axis,
        block,
    )


def carrier_bits(where: Layer | Place, shape: tuple[int, ...], grid: Grid) -> int:
    """Bits of the type that stores it.

    ONNX Runtime (1.31 at least) makes MatMulNBits of DequantizeLinear and MatMul itself, and mixes up integers of two
    bits where the last axis does not fill whole bytes: such weights are stored in four.
    """
    multiplied = where.op in ("MatMul", "Gemm") and channel_axis(where) == len(shape) - 1
    return 4 if grid.stored_bits == 2 and multiplied and shape[-1] % 4 else grid.stored_bits


def channel_axis(where: Layer | Place) -> int:
    """The axis of the weight along which rows have scales."""
    if isinstance(where, Place):
        return where.axis
    return where.axis


def fitting_block(where: Layer | Place, shape: tuple[int, ...], block: int) -> int:
    """The block to use where ``block`` columns were asked for; 0 for whole rows.

    In a convolution blocks lie along the input channels under one position of the kernel, so that they must divide
    those where there is more than one.
    """
    if not block:
        return 0
    if isinstance(where, Place):
        columns = prod(shape) // max(1, shape[where.axis])
        return block if where.op == "Gather" and block < columns else 0
    columns = prod(shape[1:]) if where.window is not None else shape[1 - channel_axis(where)]
    if block >= columns:
        return 0
    if where.window is None or prod(where.window.kernel) == 1:
        return block
    found = max(b for b in range(1, min(block, shape[1]) + 1) if shape[1] % b == 0)
    return found if found >= LEAST_BLOCK else 0


def weight_bytes(
    where: Layer | Place, shape: tuple[int, ...], grid: Grid, *, block: int = 0, symmetric: bool = True, width: int = 4
) -> int:
    """Bytes of integers, scales of ``width`` bytes and zero points as DequantizeLinear reads them."""
    rows, columns = shape[channel_axis(where)], prod(shape) // max(1, shape[channel_axis(where)])
    block = fitting_block(where, shape, block)
    scales = rows * (-(-columns // block) if block else 1)
    bits = carrier_bits(where, shape, grid)
    zeros = 0 if symmetric and grid.signed else -(-scales * bits // 8)
    return -(-prod(shape) * bits // 8) + scales * width + zeros


def _integers(where: Layer | Place, integers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """From matrices to the weight's shape."""
    if isinstance(where, Place):
        rest = [n for a, n in enumerate(shape) if a != where.axis]
        return np.ascontiguousarray(np.moveaxis(integers.reshape(shape[where.axis], *rest), 0, where.axis))
    if where.window is None:
        return np.ascontiguousarray(integers[0].T if where.axis else integers[0])
    g, o, i = where.groups, shape[0], shape[1]
    return np.ascontiguousarray(integers.reshape(g, o // g, -1, i).transpose(0, 1, 3, 2).reshape(shape))


def _blocks(where: Layer | Place, values: Floats, shape: tuple[int, ...]) -> Floats:
    """One value for each block, where DequantizeLinear wants it. Shapes: values (groups, outputs, blocks)."""
    if isinstance(where, Place):
        return values[0]
    if where.window is None:
        return values[0].T if where.axis else values[0]
    taps = prod(where.window.kernel)
    return values.reshape(shape[0], taps, -1).transpose(0, 2, 1).reshape(shape[0], -1, *where.window.kernel)


def _summed_axis(where: Layer | Place) -> int:
    return 1 - channel_axis(where) if isinstance(where, Place) or where.window is None else 1


Finder = Callable[[onnx.NodeProto, Model], Iterator[tuple[int, int]]]
PLACES: dict[str, Finder] = {}
"""By operator: which operands beside those of layers are weights, and along which axis their rows lie."""


def _place(*ops: str) -> Callable[[Finder], Finder]:
    def add(find: Finder) -> Finder:
        PLACES.update(dict.fromkeys(ops, find))
        return find

    return add


@_place("ConvTranspose")
def _conv_transpose(node: onnx.NodeProto, model: Model) -> Iterator[tuple[int, int]]:
    """Shapes: weight (C, M/group, ...): output channels of different groups share a scale, unless each has one input."""
    weight = model.weights.get(node.input[1])
    if weight is not None:
        yield 1, (0 if weight.shape[1] == 1 and attribute(node, "group", 1) > 1 else 1)


@_place("LSTM", "GRU", "RNN")
def _recurrent(node: onnx.NodeProto, model: Model) -> Iterator[tuple[int, int]]:
    """Shapes: W (directions, gates * hidden, input), R (directions, gates * hidden, hidden)."""
    yield from ((1, 1), (2, 1))


@_place("Gather")
def _table(node: onnx.NodeProto, model: Model) -> Iterator[tuple[int, int]]:
    weight = model.weights.get(node.input[0])
    if weight is not None and weight.ndim == 2 and attribute(node, "axis", 0) in (0, -2):
        yield 0, 0


@_place("MatMul")
def _stack(node: onnx.NodeProto, model: Model) -> Iterator[tuple[int, int]]:
    """A constant on the left, or matrices side by side, which are no layers."""
    for position, axis in ((0, -2), (1, -1)):
        weight = model.weights.get(node.input[position])
        if weight is not None and weight.ndim >= 2 and (position == 0 or weight.ndim > 2):
            yield position, axis % weight.ndim


def places(model: Model) -> list[Place]:
    """All of a model, in graph order; constants of one number or one row are not worth it."""
    found = []
    for node in model.graph.node:
        if not is_standard(node) or node.op_type not in PLACES:
            continue
        for position, axis in PLACES[node.op_type](node, model):
            weight = model.weights.get(node.input[position]) if position < len(node.input) else None
            if weight is not None and weight.dtype.kind == "f" and weight.size > weight.shape[axis]:
                found.append(Place(node.output[0], node.op_type, node.input[position], position, axis))
    return found
