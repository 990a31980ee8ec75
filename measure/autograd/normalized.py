"""Operators that normalize."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .call import Operands, Step, Unsupported, runs, step

Tensor = torch.Tensor


def standardized(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    variance, average = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - average) / torch.sqrt(variance + epsilon)


def along_channels(value: Tensor, x: Tensor) -> Tensor:
    """One number a channel, to go with axis 1."""
    return value.reshape(-1, *[1] * (x.ndim - 2))


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    average: Tensor,
    variance: Tensor,
    epsilon: float,
    momentum: float,
    training: bool,
) -> Tensor:
    """With statistics of the batch, which move those that are kept, or with those that are kept."""
    if training:
        return F.batch_norm(x, average, variance, scale, shift, True, momentum, epsilon)
    gain = scale / torch.sqrt(variance + epsilon)
    return x * along_channels(gain, x) + along_channels(shift - average * gain, x)


@runs("BatchNormalization")
def batches(c: Operands) -> Step:
    if c.attr("training_mode", 0):
        raise Unsupported("it is in training mode")
    momentum = float(f"{1 - c.attr('momentum', 0.9):.6g}")
    return step(batch_normalization, *c.all, c.attr("epsilon", 1e-5), momentum, c.training)


def layer_normalization(x: Tensor, scale: Tensor, shift: Tensor | None, axis: int, epsilon: float) -> Tensor:
    made = standardized(x, list(range(axis % x.ndim, x.ndim)), epsilon) * scale
    return made if shift is None else made + shift


@runs("LayerNormalization")
def layers(c: Operands) -> Step:
    return step(layer_normalization, c[0], c[1], c[2], c.attr("axis", -1), c.attr("epsilon", 1e-5))


def rms_normalization(x: Tensor, scale: Tensor, axis: int, epsilon: float) -> Tensor:
    size = x.square().mean(list(range(axis % x.ndim, x.ndim)), keepdim=True)
    return x / torch.sqrt(size + epsilon) * scale


@runs("RMSNormalization", "SimplifiedLayerNormalization")
def rms(c: Operands) -> Step:
    return step(rms_normalization, c[0], c[1], c.attr("axis", -1), c.attr("epsilon", 1e-5))


def instance_normalization(x: Tensor, scale: Tensor, shift: Tensor, epsilon: float) -> Tensor:
    made = standardized(x, list(range(2, x.ndim)), epsilon)
    return made * along_channels(scale, x) + along_channels(shift, x)


@runs("InstanceNormalization")
def instances(c: Operands) -> Step:
    return step(instance_normalization, *c.all, c.attr("epsilon", 1e-5))


def group_normalization(x: Tensor, scale: Tensor, shift: Tensor, groups: int, epsilon: float) -> Tensor:
    made = standardized(x.reshape(len(x), groups, -1), [2], epsilon).reshape(x.shape)
    repeat = 1 if len(scale) == x.shape[1] else x.shape[1] // groups  # before operator set 21 one number a group
    scale, shift = scale.repeat_interleave(repeat), shift.repeat_interleave(repeat)
    return made * along_channels(scale, x) + along_channels(shift, x)


@runs("GroupNormalization")
def groups(c: Operands) -> Step:
    return step(group_normalization, *c.all, c.attr("num_groups"), c.attr("epsilon", 1e-5))


def lp_normalization(x: Tensor, p: int, axis: int) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(size == 0, torch.zeros_like(x), x / size)


@runs("LpNormalization")
def lp(c: Operands) -> Step:
    return step(lp_normalization, c[0], c.attr("p", 2), c.attr("axis", -1))


def local_response(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    before = (size - 1) // 2
    squares = F.pad(x.square().reshape(*x.shape[:2], math.prod(x.shape[2:])), (0, 0, before, size - 1 - before))
    summed = squares.unfold(1, size, 1).sum(-1).reshape(x.shape)
    return x / (bias + alpha / size * summed) ** beta


@runs("LRN")
def lrn(c: Operands) -> Step:
    alpha, beta, bias = c.attr("alpha", 1e-4), c.attr("beta", 0.75), c.attr("bias", 1.0)
    return step(local_response, c[0], c.attr("size"), alpha, beta, bias)
