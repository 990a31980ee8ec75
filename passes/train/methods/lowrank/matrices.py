"""Weights of layers as the matrices that are to have few ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Scheme = Literal["channel", "spatial"]


def as_matrix(weight: Tensor, scheme: Scheme) -> Tensor:
    """Shapes: channel (O, I * kernel); spatial (I * height, O * width); a matrix stays one."""
    if weight.ndim == 4 and scheme == "spatial":
        o, i, h, w = weight.shape
        return weight.permute(1, 2, 0, 3).reshape(i * h, o * w)
    return weight.flatten(1)


def as_weight(matrix: Tensor, like: Tensor, scheme: Scheme) -> Tensor:
    """The inverse."""
    if like.ndim == 4 and scheme == "spatial":
        o, i, h, w = like.shape
        return matrix.reshape(i, h, o, w).permute(2, 0, 1, 3)
    return matrix.reshape(like.shape)


def rank_of(values: Tensor, energy: float) -> int:
    """The least number of singular values with so much of the sum of all their squares."""
    share = values.square().cumsum(0) / values.square().sum().clamp_min(1e-30)
    return min(len(values), int((share < energy).sum()) + 1)
