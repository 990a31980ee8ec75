"""Conversions between floats and integers, which stay floats here: gradients pass rounding as if it were not there."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import torch

from .call import Call, Operands, Step, Unsupported, runs, step

Tensor = torch.Tensor


def rounded(x: Tensor) -> Tensor:
    """To the nearest integer, halves to even ones, with the gradient of x.

    Source: the straight-through estimator, Bengio et al., 2013, arXiv:1308.3432.
    """
    return torch.round(x).detach() + (x - x.detach())


def limits(kind: np.dtype) -> tuple[int, int]:
    """The least and the greatest integer of a type, of less than a byte, too. Raises Unsupported."""
    try:
        found = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        raise Unsupported(f"it makes {kind}") from None
    return int(found.min), int(found.max)


def spread(value: Tensor, like: Tensor, axis: int, block: int) -> Tensor:
    """A number for all, one for each index of an axis, or one for each block along it."""
    if value.numel() == 1:
        return value.reshape(())
    if value.ndim == 1:
        return value.reshape([-1 if k == axis % like.ndim else 1 for k in range(like.ndim)])
    repeated = value.repeat_interleave(block, axis) if block else value
    return repeated.narrow(axis, 0, like.shape[axis])


def to_integers(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int, low: int, high: int) -> Tensor:
    near = rounded(x / spread(scale, x, axis, block))
    return torch.clamp(near if zero is None else near + spread(zero.to(scale.dtype), x, axis, block), low, high)


def to_floats(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> Tensor:
    x = x.to(scale.dtype)
    return (x if zero is None else x - spread(zero.to(scale.dtype), x, axis, block)) * spread(scale, x, axis, block)


@runs("QuantizeLinear")
def quantize(c: Operands) -> Step:
    return step(to_integers, c[0], c[1], c[2], c.attr("axis", 1), c.attr("block_size", 0), *_ends(c))


def _ends(c: Operands) -> tuple[int, int]:
    named, point = c.attr("output_dtype", 0), c.array(2)
    kind = np.dtype(np.uint8) if point is None else point.dtype
    return limits(onnx.helper.tensor_dtype_to_np_dtype(named) if named and point is None else kind)


def quantize_learning_reach(c: Call) -> Tensor:
    """The same with another gradient: that of the scale is of those numbers alone that are out of reach."""
    x, axis, block = c.tensor(), c.attr("axis", 1), c.attr("block_size", 0)
    scale = spread(c.tensor(1), x, axis, block)
    zero = spread(c.tensor(2).to(c.dtype), x, axis, block) if c.has(2) else torch.zeros((), dtype=c.dtype)
    near = rounded(x / scale.detach())
    return torch.clamp(near - near.detach() * (scale / scale.detach() - 1) + zero, *_ends(c))


@runs("DequantizeLinear")
def dequantize(c: Operands) -> Step:
    return step(to_floats, c[0], c[1], c[2], c.attr("axis", 1), c.attr("block_size", 0))
