"""Operators that move, select or repeat numbers."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from ...graph.nodes import constant_value
from .call import KEPT_APART, OPERATORS, Call, Operands, Step, Unsupported, Value, computes, made_of, runs, step

Tensor = torch.Tensor


def counted(start: Tensor, end: Tensor, by: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), by.item(), dtype=start.dtype)


def shape_of(x: Tensor, start: int, end: int | None) -> Tensor:
    return torch.tensor(x.shape[start:end])


def count_of(x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


OPERATORS.update({"Range": made_of(counted), "Shape": made_of(shape_of, start=0, end=None), "Size": made_of(count_of)})
KEPT_APART["Size"] = lambda c: np.array(c.tensor().numel(), np.int64)


@computes("Shape")
def shape(c: Call) -> Value:
    return np.array(c.tensor().shape[c.attr("start", 0) : c.attr("end")], np.int64)


@computes("Constant")
def constant(c: Call) -> Value:
    """Those of bodies: elsewhere ``load`` has made weights of them."""
    found = constant_value(c.node)
    if found is None:
        raise Unsupported("it holds no numbers")
    return found


def _held(c: Operands) -> np.ndarray:
    fill = c.attr("value")
    return np.zeros(1, np.float32) if fill is None else onnx.numpy_helper.to_array(fill)


@computes("ConstantOfShape")
def constant_of_shape(c: Call) -> Value:
    sizes = c.ints(0)
    assert sizes is not None
    return np.full(sizes, _held(c).reshape(-1)[0])


@runs("ConstantOfShape")
def filled(c: Operands) -> Step:
    fill = _held(c).reshape(-1)
    return step(torch.full, c.ints(0), fill[0].item(), dtype=c.kind(fill.dtype))


@runs("Concat")
def joined(c: Operands) -> Step:
    return step(torch.cat, c.all, c.attr("axis"))


@runs("Tile")
def tiled(c: Operands) -> Step:
    return step(torch.tile, c[0], c.ints(1))


def turned(x: Tensor) -> Tensor:
    return x.permute(list(range(x.ndim))[::-1])


@runs("Transpose")
def transposed(c: Operands) -> Step:
    perm = c.attr("perm")
    return step(torch.permute, c[0], perm) if perm else step(turned, c[0])


def reshaped(x: Tensor, sizes: list[int]) -> Tensor:
    """Where 0 is the length that the axis has."""
    return x.reshape([x.shape[k] if n == 0 else n for k, n in enumerate(sizes)])


@runs("Reshape")
def reshape(c: Operands) -> Step:
    sizes = c.ints(1)
    plain = c.attr("allowzero", 0) or (isinstance(sizes, list) and 0 not in sizes)
    return step(torch.reshape if plain else reshaped, c[0], sizes)


def flattened(x: Tensor, axis: int) -> Tensor:
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]), -1)


OPERATORS["Flatten"] = made_of(flattened, axis=1)


@runs("Squeeze")
def squeeze(c: Operands) -> Step:
    axes = c.ints(1, "axes")
    return step(torch.squeeze, c[0], *([] if axes is None else [axes]))


def unsqueezed(x: Tensor, axes: list[int]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@runs("Unsqueeze")
def unsqueeze(c: Operands) -> Step:
    return step(unsqueezed, c[0], c.ints(1, "axes"))


def expanded(x: Tensor, sizes: list[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes)))  # type: ignore[no-untyped-call]


@runs("Expand")
def expand(c: Operands) -> Step:
    return step(expanded, c[0], c.ints(1))


def split_evenly(x: Tensor, count: int, axis: int) -> tuple[Tensor, ...]:
    return torch.split(x, -(-x.shape[axis] // count), axis)


@runs("Split")
def split(c: Operands) -> Step:
    axis, parts, count = c.attr("axis", 0), c.ints(1, "split"), len(c.node.output)
    if parts is None:
        return Step(split_evenly, [c[0], count, axis], results=count)
    return Step(torch.split, [c[0], parts, axis], results=count)


def cut(x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> Tensor:
    """A very small end, going backwards, includes index 0."""
    for k, axis in enumerate(axes or range(len(starts))):
        by = steps[k] if steps else 1
        end = None if by < 0 and ends[k] < -(2**30) else ends[k]
        places = range(x.shape[axis])[starts[k] : end : by]
        if by > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(places.start, max(places.start, places.stop), by),)]
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


@runs("Slice")
def sliced(c: Operands) -> Step:
    return step(cut, c[0], c.ints(1, "starts"), c.ints(2, "ends"), c.ints(3, "axes"), c.ints(4, "steps"))


def take(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Negative indices are counted from the end."""
    axis = axis % x.ndim
    flat = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
    return flat.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@runs("Gather")
def gather(c: Operands) -> Step:
    place, axis = c.constant(1), c.attr("axis", 0)
    if place is not None and place.ndim == 0:
        return step(torch.select, c[0], axis, place.item())
    return step(take, c[0], axis, c[1])


def take_each(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    return torch.gather(x, axis, indices.long() % x.shape[axis])


@runs("GatherElements")
def gather_elements(c: Operands) -> Step:
    return step(take_each, c[0], c.attr("axis", 0), c[1])


def take_at(x: Tensor, places: Tensor) -> Tensor:
    return x[tuple(places.long().unbind(-1))]


@runs("GatherND")
def gather_nd(c: Operands) -> Step:
    if c.attr("batch_dims", 0):
        raise Unsupported("batch_dims is set")
    return step(take_at, c[0], c[1])


def put_at(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    return x.index_put(tuple(places.long().unbind(-1)), values)


@runs("ScatterND")
def scatter_nd(c: Operands) -> Step:
    if c.attr("reduction", "none") != "none":
        raise Unsupported(f"reduction is {c.attr('reduction')}")
    return step(put_at, *c.all)


@runs("Trilu")
def triangle(c: Operands) -> Step:
    return step(torch.triu if c.attr("upper", 1) else torch.tril, c[0], c.number(1, 0))


def by_axis(x: Tensor, pads: list[int], axes: list[int] | None) -> dict[int, tuple[int, int]]:
    """What is added before and behind each axis."""
    at = [a % x.ndim for a in axes] if axes else list(range(x.ndim))
    return dict(zip(at, zip(pads[: len(at)], pads[len(at) :], strict=False), strict=False))


def padded(x: Tensor, pads: list[int], axes: list[int] | None, value: float) -> Tensor:
    both = by_axis(x, pads, axes)
    return F.pad(x, [n for axis in reversed(range(x.ndim)) for n in both.get(axis, (0, 0))], value=value)


def continued(x: Tensor, pads: list[int], axes: list[int] | None, mode: str) -> Tensor:
    """With numbers of its own: the last again, mirrored, or from the other end."""
    for axis, (before, behind) in by_axis(x, pads, axes).items():
        length = x.shape[axis]
        places = torch.arange(-before, length + behind, device=x.device)
        if mode == "edge":
            places = places.clamp(0, length - 1)
        elif mode == "wrap":
            places = places % length
        else:
            places = length - 1 - (places % max(1, 2 * length - 2) - length + 1).abs()
        x = x.index_select(axis, places)
    return x


@runs("Pad")
def pad(c: Operands) -> Step:
    pads, axes, mode = c.ints(1, "pads"), c.ints(3), c.attr("mode", "constant")
    if mode == "constant":
        return step(padded, c[0], pads, axes, c.number(2, 0))
    return step(continued, c[0], pads, axes, mode)
