"""Weights as they stand in a model: how a layer's integers and scales are laid out in its tensor.

Layers that cannot be fitted on activations are rounded by themselves: transposed convolutions, recurrent layers, rows of
tables, stacks of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ...graph.io.spill import is_finite, spilled
from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.traits import Trait, has
from .grid import CARRIERS, Grid, Quantized

LEAST_BLOCK = 8
"""Fewer weights under one scale of 32 bits are not worth it."""


@dataclass(frozen=True)
class Laid:
    """What DequantizeLinear reads: integers in the weight's shape, scale and zero point along ``axis`` or in blocks."""

    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    axis: int
    block: int
    grid: Grid

    @property
    def bits(self) -> int:
        return next(bits for (bits, _), kind in CARRIERS.items() if self.integers.dtype == np.dtype(kind))

    @property
    def arrays(self) -> list[np.ndarray]:
        return [a for a in (self.integers, self.scale, self.zero) if a is not None]

    def once(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Integers, scales and float zero points that go together as they stand, noughts in the place of what a block lacks."""
        shape, axis, length = self.integers.shape, self.axis, self.integers.shape[self.axis]
        if not self.block:
            beside = [1] * self.integers.ndim
            beside[axis] = length
            integers = self.integers
            parts = [None if a is None else a.reshape(beside) for a in (self.scale, self.zero)]
        else:
            missing = [(0, -length % self.block if a == axis else 0) for a in range(len(shape))]
            whole = np.pad(self.integers.view(f"i{self.integers.itemsize}"), missing).view(self.integers.dtype)
            integers = whole.reshape(*shape[:axis], -1, self.block, *shape[axis + 1 :])
            parts = [None if a is None else np.expand_dims(a, axis + 1) for a in (self.scale, self.zero)]
        scale, zero = parts
        assert scale is not None
        return integers, scale, None if zero is None else zero.astype(scale.dtype)

    def same(self, other: Laid) -> bool:
        """Whether it stands for the same tensor, number for number."""
        return (self.axis, self.block, len(self.arrays)) == (other.axis, other.block, len(other.arrays)) and all(
            a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(self.arrays, other.arrays, strict=True)
        )


def laid(layer: Layer, quantized: Quantized, weight: np.ndarray) -> Laid:
    """Raises ValueError where blocks do not fit the tensor: see ``fitting_block``."""
    axis, block = layer.axis, quantized.block
    lay: Callable[..., Any]
    integers = np.ascontiguousarray(layer.unfolded(quantized.integers, weight.shape))
    if quantized.scale.shape[2] == 1:
        block, lay = 0, np.ravel
    elif fitting_block(layer, block) == block:
        axis, lay = 1 if layer.window is not None else 1 - axis, partial(_blocks, layer)
    else:
        raise ValueError(f"blocks of {block} do not fit {layer.op} {layer.node!r} of shape {weight.shape}")
    scale = lay(quantized.scale / layer.alpha)
    zero = None if quantized.zero is None else lay(quantized.zero)
    carrier = quantized.grid.dtype
    kind = weight.dtype if weight.dtype in (np.float32, np.float16) else np.float32
    return Laid(
        spilled(integers.astype(carrier, copy=False)),
        np.ascontiguousarray(scale.astype(kind)),
        None if zero is None else np.ascontiguousarray(zero.astype(np.int32).astype(carrier)),
        axis,
        block,
        quantized.grid,
    )


def fitting_block(layer: Layer, block: int) -> int:
    """The block to use where ``block`` columns were asked for; 0 for whole rows.

    In a convolution blocks lie along the input channels under one position of the kernel, so that they must divide
    those where there is more than one.
    """
    if not block or block >= layer.columns or (layer.unfit and layer.op != "Gather"):
        return 0
    if layer.positions == 1:
        return block
    found = max(b for b in range(1, min(block, layer.channels) + 1) if layer.channels % b == 0)
    return found if found >= LEAST_BLOCK else 0


def weight_bytes(layer: Layer, grid: Grid, *, block: int = 0) -> int:
    """Bytes of integers in as many bits as they have, of scales in single precision and of zero points."""
    block = fitting_block(layer, block)
    scales = layer.shape[layer.axis] * (-(-layer.columns // block) if block else 1)
    zeros = 0 if grid.signed else -(-scales * grid.bits // 8)
    return -(-prod(layer.shape) * grid.bits // 8) + 4 * scales + zeros


def _blocks(layer: Layer, values: Floats) -> Floats:
    """One value for each block, where DequantizeLinear wants it. Shapes: values (groups, outputs, blocks)."""
    if layer.window is None:
        return values[0].T if layer.axis else values[0]
    rows = layer.shape[0]
    return values.reshape(rows, layer.positions, -1).transpose(0, 2, 1).reshape(rows, -1, *layer.kernel)


def independent(model: Model) -> list[Layer]:
    """Layers whose weights are rounded by themselves, in graph order, seen as rows that have scales.

    Of a table those are its rows. Constants of one number or one row are not worth it, and
    tables of masks are none.
    """
    unfit = (one for one in Layers(model).weighted if one.unfit)
    chosen = (one for one in unfit if one.op == "MatMul" or not has(one.op, Trait.LAYER))
    seen = [replace(one, axis=0) if one.op == "Gather" else one for one in chosen]
    worth = [one for one in seen if one.columns > 1 and (one.op != "MatMul" or one.operand == 0 or len(one.shape) > 2)]
    return [one for one in worth if one.op != "Gather" or is_finite(model.weights[one.weight])]
