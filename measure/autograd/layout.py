"""Operators that move, select or repeat numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from ...graph.evaluate import slices
from .call import OPERATORS, Call, Unsupported, Value, as_tensor, made_of, runs

Tensor = torch.Tensor


OPERATORS.update(
    {
        "Concat": made_of(lambda *tensors, axis: torch.cat(tensors, axis), axis=None),
        "Range": made_of(lambda *ends: torch.arange(*(end.item() for end in ends), dtype=ends[0].dtype)),
        "Size": lambda c: np.array(c.tensor().numel(), np.int64),
        "Tile": lambda c: c.tensor().tile(_required(c.ints(1))),
        "Transpose": made_of(lambda x, perm: x.permute(perm or list(range(x.ndim))[::-1]), perm=None),
    }
)


def _required(found: list[int] | None) -> list[int]:
    assert found is not None, "onnx's checker refuses nodes without what they must have"
    return found


@runs("Shape")
def shape(c: Call) -> Value:
    return np.array(c.tensor().shape[c.attr("start", 0) : c.attr("end")], np.int64)


@runs("Constant")
def constant(c: Call) -> Value:
    """Of tensors only: what else nodes hold, ``load`` has made weights of."""
    return onnx.numpy_helper.to_array(c.attr("value"))


@runs("ConstantOfShape")
def constant_of_shape(c: Call) -> Value:
    fill = c.attr("value")
    value = np.float32(0) if fill is None else onnx.numpy_helper.to_array(fill).reshape(-1)[0]
    return np.full(_required(c.ints(0)), value)


@runs("Reshape")
def reshape(c: Call) -> Tensor:
    x, sizes = c.tensor(), _required(c.ints(1))
    return x.reshape(sizes if c.attr("allowzero", 0) else [x.shape[i] if d == 0 else d for i, d in enumerate(sizes)])


@runs("Flatten")
def flatten(c: Call) -> Tensor:
    x, axis = c.tensor(), c.attr("axis", 1)
    return x.reshape(int(np.prod(x.shape[: axis if axis >= 0 else axis + x.ndim], dtype=np.int64)), -1)


@runs("Squeeze")
def squeeze(c: Call) -> Tensor:
    axes = c.ints(1, "axes")
    return c.tensor().squeeze() if axes is None else c.tensor().squeeze(axes)


@runs("Unsqueeze")
def unsqueeze(c: Call) -> Tensor:
    x, axes = c.tensor(), _required(c.ints(1, "axes"))
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@runs("Expand")
def expand(c: Call) -> Tensor:
    return c.tensor().expand(np.broadcast_shapes(c.tensor().shape, tuple(_required(c.ints(1)))))


@runs("Split")
def split(c: Call) -> Sequence[Tensor]:
    x, axis, parts = c.tensor(), c.attr("axis", 0), c.ints(1, "split")
    return torch.split(x, parts or -(-x.shape[axis] // len(c.node.output)), axis)


@runs("Slice")
def cut(c: Call) -> Tensor:
    x = c.tensor()
    for axis, one in enumerate(slices(c.node, c.arrays, x.ndim)):
        if one != slice(None):
            x = _at(x, axis, np.arange(x.shape[axis])[one])
    return x


@runs("Gather")
def gather(c: Call) -> Tensor:
    x, at, axis = c.tensor(), c.array(1), c.attr("axis", 0) % c.tensor().ndim
    assert at is not None
    return _at(x, axis, at.reshape(-1) % x.shape[axis]).reshape(*x.shape[:axis], *at.shape, *x.shape[axis + 1 :])


@runs("GatherElements")
def gather_elements(c: Call) -> Tensor:
    x, axis = c.tensor(), c.attr("axis", 0)
    return torch.gather(x, axis, c.tensor(1) % x.shape[axis])


@runs("GatherND")
def gather_nd(c: Call) -> Tensor:
    if c.attr("batch_dims", 0):
        raise Unsupported("batch_dims is set")
    return c.tensor()[tuple(c.tensor(1).unbind(-1))]


@runs("ScatterND")
def scatter_nd(c: Call) -> Tensor:
    if c.attr("reduction", "none") != "none":
        raise Unsupported(f"reduction is {c.attr('reduction')}")
    return c.tensor().index_put(tuple(c.tensor(1).unbind(-1)), c.tensor(2))


@runs("Trilu")
def triangle(c: Call) -> Tensor:
    (k,) = c.ints(1) or [0]
    return c.tensor().triu(k) if c.attr("upper", 1) else c.tensor().tril(k)


@runs("Pad")
def pad(c: Call) -> Tensor:
    x, pads = c.tensor(), _required(c.ints(1, "pads"))
    axes, mode = c.ints(3), c.attr("mode", "constant")
    at = [a % x.ndim for a in axes] if axes else list(range(x.ndim))
    both = dict(zip(at, zip(pads[: len(at)], pads[len(at) :], strict=True), strict=True))
    if mode == "constant":
        fill = c.array(2)
        told = [n for axis in reversed(range(x.ndim)) for n in both.get(axis, (0, 0))]
        return F.pad(x, told, value=0 if fill is None else fill.item())
    for axis, (before, behind) in both.items():
        found = np.pad(np.arange(x.shape[axis]), (max(before, 0), max(behind, 0)), mode)
        x = _at(x, axis, found[max(-before, 0) : len(found) - max(-behind, 0)])
    return x


def _at(x: Tensor, axis: int, indices: np.ndarray) -> Tensor:
    return x.index_select(axis, torch.from_numpy(np.array(indices, np.int64)))


@runs("Resize")
def resize(c: Call) -> Tensor:
    """A product with one matrix for each axis that is resized."""
    x, sizes = c.tensor(), c.ints(3)
    scales = np.zeros(0) if sizes else c.tensor(2).detach().numpy()
    if c.attr("antialias", 0) or c.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("antialias or keep_aspect_ratio_policy is set")
    axes = [a % x.ndim for a in c.attr("axes", list(range(x.ndim)))]
    for k, axis in enumerate(axes):
        length = x.shape[axis]
        target = sizes[k] if sizes else int(np.floor(length * scales[k]))
        scale = target / length if sizes else float(scales[k])
        if target != length or scale != 1:
            matrix = _interpolation(c, length, target, scale)
            x = torch.movedim(torch.movedim(x, axis, -1) @ as_tensor(matrix, x.dtype).T, -1, axis)
    return x


def _interpolation(c: Call, length: int, target: int, scale: float) -> np.ndarray:
    """Shapes: (target, length)."""
    places = _places(c.attr("coordinate_transformation_mode", "half_pixel"), length, target, scale)
    mode = c.attr("mode", "nearest")
    rows = np.zeros((target, length))
    if mode == "nearest":
        near = _NEAREST[c.attr("nearest_mode", "round_prefer_floor")](places).astype(np.int64)
        rows[np.arange(target), near.clip(0, length - 1)] = 1
        return rows
    start = np.floor(places)
    for tap in (0, 1) if mode == "linear" else (-1, 0, 1, 2):
        at, gap = (start + tap).astype(np.int64), np.abs(places - start - tap)
        weight = 1 - gap if mode == "linear" else _cubic(gap, c.attr("cubic_coeff_a", -0.75))
        if c.attr("exclude_outside", 0):
            weight = np.where((at < 0) | (at >= length), 0, weight)
        np.add.at(rows, (np.arange(target), at.clip(0, length - 1)), weight)
    return rows / rows.sum(axis=1, keepdims=True)


def _places(mode: str, length: int, target: int, scale: float) -> np.ndarray:
    """Where in the input each index of the output lies."""
    index = np.arange(target)
    if mode == "asymmetric":
        return index / scale
    if mode == "align_corners":
        return index * ((length - 1) / max(1, target - 1))
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and target > 1):
        return (index + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return index * 0.0
    raise Unsupported(f"coordinate_transformation_mode is {mode}")


def _cubic(gap: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * gap - (a + 3)) * gap**2 + 1
    far = ((a * gap - 5 * a) * gap + 8 * a) * gap - 4 * a
    return np.where(gap <= 1, near, np.where(gap < 2, far, 0))


_NEAREST: dict[str, Any] = {
    "round_prefer_floor": lambda p: np.ceil(p - 0.5),
    "round_prefer_ceil": lambda p: np.floor(p + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
