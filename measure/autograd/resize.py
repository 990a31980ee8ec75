"""Resizing."""

from __future__ import annotations

import math

import torch

from .call import Operands, Step, Unsupported, runs, step

Tensor = torch.Tensor


def resize(
    x: Tensor,
    scales: list[float],
    sizes: list[int] | None,
    axes: list[int] | None,
    mode: str,
    coordinates: str,
    nearest: str,
    outside: bool,
    cubic: float,
) -> Tensor:
    """A product with one matrix for each axis that is resized; repetition where it is that."""
    for k, axis in enumerate(axes or range(x.ndim)):
        axis, length = axis % x.ndim, x.shape[axis]
        target = sizes[k] if sizes else math.floor(length * scales[k])
        scale = target / length if sizes else scales[k]
        if target == length and scale == 1:
            continue
        same = (coordinates, nearest) == ("asymmetric", "floor") or (coordinates, nearest[:5]) == (
            "half_pixel",
            "round",
        )
        if mode == "nearest" and same and scale == round(scale) > 0:
            x = x.repeat_interleave(round(scale), axis)
        else:
            how = interpolation(length, target, scale, mode, coordinates, nearest, outside, cubic)
            x = torch.movedim(torch.movedim(x, axis, -1) @ how.to(x.dtype).T, -1, axis)
    return x


def interpolation(
    length: int, target: int, scale: float, mode: str, coordinates: str, nearest: str, outside: bool, cubic: float
) -> Tensor:
    """What each number of the result takes of those along an axis. Shapes: (target, length)."""
    places = places_of(coordinates, length, target, scale)
    rows = torch.zeros(target, length, dtype=torch.float64)
    if mode == "nearest":
        whole = {
            "round_prefer_floor": torch.ceil(places - 0.5),
            "round_prefer_ceil": torch.floor(places + 0.5),
            "floor": torch.floor(places),
            "ceil": torch.ceil(places),
        }
        return rows.scatter_(1, whole[nearest].long().clamp(0, length - 1)[:, None], 1.0)
    start = torch.floor(places)
    for tap in (0, 1) if mode == "linear" else (-1, 0, 1, 2):
        at, gap = (start + tap).long(), (places - start - tap).abs()
        weight = 1 - gap if mode == "linear" else cubic_weight(gap, cubic)
        if outside:
            weight = torch.where((at < 0) | (at >= length), 0.0, weight)
        rows.scatter_add_(1, at.clamp(0, length - 1)[:, None], weight[:, None])
    return rows / rows.sum(1, keepdim=True)


def places_of(coordinates: str, length: int, target: int, scale: float) -> Tensor:
    """Where in the input each index of the output lies."""
    index = torch.arange(target, dtype=torch.float64)
    if coordinates == "asymmetric":
        return index / scale
    if coordinates == "align_corners":
        return index * ((length - 1) / max(1, target - 1))
    if coordinates == "pytorch_half_pixel" and target <= 1:
        return index * 0.0
    return (index + 0.5) / scale - 0.5


def cubic_weight(gap: Tensor, a: float) -> Tensor:
    near = ((a + 2) * gap - (a + 3)) * gap**2 + 1
    far = ((a * gap - 5 * a) * gap + 8 * a) * gap - 4 * a
    return torch.where(gap <= 1, near, torch.where(gap < 2, far, torch.zeros_like(gap)))


@runs("Resize")
def resized(c: Operands) -> Step:
    coordinates = c.attr("coordinate_transformation_mode", "half_pixel")
    if c.attr("antialias", 0) or c.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("antialias or keep_aspect_ratio_policy is set")
    if coordinates not in ("asymmetric", "align_corners", "half_pixel", "pytorch_half_pixel"):
        raise Unsupported(f"coordinate_transformation_mode is {coordinates}")
    sizes = c.ints(3)
    scales = [] if c.has(3) else c.numbers(2)
    how = (c.attr("mode", "nearest"), coordinates, c.attr("nearest_mode", "round_prefer_floor"))
    outside, cubic = bool(c.attr("exclude_outside", 0)), c.attr("cubic_coeff_a", -0.75)
    return step(resize, c[0], scales, sizes, c.attr("axes"), *how, outside, cubic)
