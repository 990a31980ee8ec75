"""Conversions between floats and integers, which stay floats here: gradients pass rounding as if it were not there."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import torch

from .call import Call, Unsupported, runs

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


def _spread(value: Tensor, like: Tensor, axis: int, block: int) -> Tensor:
    """A number for all, one for each index of an axis, or one for each block along it."""
    if value.numel() == 1:
        return value.reshape(())
    if value.ndim == 1:
        return value.reshape([-1 if k == axis % like.ndim else 1 for k in range(like.ndim)])
    repeated = value.repeat_interleave(block, axis) if block else value
    return repeated.narrow(axis, 0, like.shape[axis])


def _scales(c: Call) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers, the scale and the zero point, which stretch to each other."""
    x, axis, block = c.tensor(), c.attr("axis", 1), c.attr("block_size", 0)
    scale = _spread(c.tensor(1), x, axis, block)
    zero = _spread(c.tensor(2).to(c.dtype), x, axis, block) if c.has(2) else torch.zeros((), dtype=c.dtype)
    return x, scale, zero


@runs("QuantizeLinear")
def quantize(c: Call) -> Tensor:
    x, scale, zero = _scales(c)
    return _within(c, rounded(x / scale) + zero)


def quantize_learning_reach(c: Call) -> Tensor:
    """The same with another gradient: that of the scale is of those numbers alone that are out of reach."""
    x, scale, zero = _scales(c)
    near = rounded(x / scale.detach())
    return _within(c, near - near.detach() * (scale / scale.detach() - 1) + zero)


def _within(c: Call, near: Tensor) -> Tensor:
    named = c.attr("output_dtype", 0)
    point = c.array(2)
    kind = np.dtype(np.uint8) if point is None else point.dtype
    low, high = limits(onnx.helper.tensor_dtype_to_np_dtype(named) if named and point is None else kind)
    return torch.clamp(near, low, high)


@runs("DequantizeLinear")
def dequantize(c: Call) -> Tensor:
    x, scale, zero = _scales(c)
    return (x.to(c.dtype) - zero) * scale
