"""Operators that multiply by signs, which are bits in a file and floats where they are trained."""

from __future__ import annotations

import numpy as np
import torch

from ...kernels.packing import unpack
from .call import Call, computes
from .quantized import rounded

Tensor = torch.Tensor


def _rows(c: Call, position: int) -> tuple[Tensor, Tensor]:
    """Signs, and the scale of each. Shapes: (planes, rows, columns), both."""
    bits, scale, columns, block = c.values[position], c.tensor(position + 1), c.attr("channels"), c.attr("block")
    signs = torch.from_numpy(unpack(bits, columns)) if isinstance(bits, np.ndarray) else c.tensor(position)
    at = torch.div(torch.arange(columns), block, rounding_mode="floor").clamp_max(scale.shape[2] - 1)
    return signs.to(c.dtype), scale[..., at]


@computes("intaglio:UnpackWeight")
def unpack_weight(c: Call) -> Tensor:
    signs, scale = _rows(c, 0)
    return (signs * scale).sum(0)


@computes("intaglio:MatMul1Bit")
def matmul_1bit(c: Call) -> Tensor:
    signs, scale = _rows(c, 1)
    return c.tensor() @ (signs * scale).sum(0).T


@computes("intaglio:MatMul1BitInt8")
def matmul_1bit_int8(c: Call) -> Tensor:
    """Each row of the input in 255 steps, from the negative of its largest number to it."""
    x = c.tensor()
    largest = x.abs().amax(-1, keepdim=True)
    inverse = 127.0 / torch.where(largest == 0, torch.ones_like(largest), largest)
    signs, scale = _rows(c, 1)
    return rounded(x * inverse) @ (signs * scale).sum(0).T / inverse
