"""Convolutions, products and pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ...graph.layer import Window
from .call import Call, Unsupported, runs

Tensor = torch.Tensor
_NUMBERED = (1, 2, 3)


def _numbered(name: str, rank: int) -> Callable[..., Tensor]:
    """What torch has for so many axes of pixels."""
    if rank not in _NUMBERED:
        raise Unsupported(f"it works on {rank} axes of pixels, not 1 to 3")
    function: Callable[..., Tensor] = getattr(F, f"{name}{rank}d")
    return function


def _reversed_pads(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """In the order of ``F.pad``: the last axis first."""
    return [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair]


@runs("Conv")
def convolution(c: Call) -> Tensor:
    x, weight = c.tensor(), c.tensor(1)
    window = Window.of(c.node, tuple(weight.shape[2:]))
    convolve = _numbered("conv", len(window.kernel))
    begins, ends = window.padding(tuple(x.shape[2:]))
    same = tuple(begins) == tuple(ends)
    x = x if same else F.pad(x, _reversed_pads(begins, ends))
    padding = tuple(begins) if same else 0
    return convolve(x, weight, c.optional(2), window.strides, padding, window.dilations, c.attr("group", 1))


@runs("ConvTranspose")
def transposed_convolution(c: Call) -> Tensor:
    """All that the kernel reaches, cut to what is asked for."""
    x, weight = c.tensor(), c.tensor(1)
    rank, kernel = weight.ndim - 2, weight.shape[2:]
    strides, dilations = c.attr("strides", [1] * rank), c.attr("dilations", [1] * rank)
    more = c.attr("output_padding", [0] * rank)
    spread = _numbered("conv_transpose", rank)
    y = spread(x, weight, None, strides, 0, 0, c.attr("group", 1), dilations)
    begins, ends = _cut(
        c,
        [
            s * (n - 1) + d * (k - 1) + 1 + m
            for s, n, d, k, m in zip(strides, x.shape[2:], dilations, kernel, more, strict=True)
        ],
        x.shape[2:],
        strides,
    )
    y = F.pad(y, _reversed_pads([-b for b in begins], [m - e for m, e in zip(more, ends, strict=True)]))
    return y if not c.has(2) else y + c.tensor(2).reshape(-1, *[1] * rank)


def _cut(c: Call, full: list[int], sizes: Sequence[int], strides: list[int]) -> tuple[list[int], list[int]]:
    """What goes at both ends of each axis."""
    rank, auto, wanted = len(full), c.attr("auto_pad", "NOTSET"), c.attr("output_shape")
    if wanted is None and auto in ("NOTSET", "VALID"):
        pads = c.attr("pads", [0] * 2 * rank)
        return pads[:rank], pads[rank:]
    wanted = wanted[-rank:] if wanted else [n * s for n, s in zip(sizes, strides, strict=True)]
    total = [f - w for f, w in zip(full, wanted, strict=True)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


@runs("Gemm")
def gemm(c: Call) -> Tensor:
    a, b = (m.T if c.attr(name, 0) else m for m, name in ((c.tensor(0), "transA"), (c.tensor(1), "transB")))
    y = c.attr("alpha", 1.0) * (a @ b)
    return y + c.attr("beta", 1.0) * c.tensor(2) if c.has(2) else y


@runs("Einsum")
def einsum(c: Call) -> Tensor:
    return torch.einsum(c.attr("equation").replace(" ", ""), *c.tensors)


def _pool_ends(c: Call, window: Window, sizes: Sequence[int], begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Padding behind each axis with which windows fit exactly; a last one that starts behind the input is none."""
    found = []
    for n, k, s, d, b, e in zip(sizes, window.kernel, window.strides, window.dilations, begins, ends, strict=True):
        reach = d * (k - 1) + 1
        room = n + b + e - reach
        steps = -(-room // s) if c.attr("ceil_mode", 0) else room // s
        steps -= int(steps * s >= n + b)
        found.append(steps * s + reach - n - b)
    return found


def _pooled(c: Call) -> tuple[Tensor, Window, list[int], list[int]]:
    """The input, its window, and padding as ``F.pad`` wants it: as told, and up to the last window."""
    x = c.tensor()
    window = Window.of(c.node, tuple(c.attr("kernel_shape")))
    begins, ends = window.padding(tuple(x.shape[2:]))
    last = _pool_ends(c, window, x.shape[2:], begins, ends)
    told = _reversed_pads(begins, [min(e, n) for e, n in zip(ends, last, strict=True)])
    return x, window, told, _reversed_pads([0] * len(last), [max(0, n - e) for e, n in zip(ends, last, strict=True)])


@runs("MaxPool")
def max_pool(c: Call) -> Tensor:
    x, window, told, more = _pooled(c)
    pool = _numbered("max_pool", len(window.kernel))
    least = float("-inf")
    padded = F.pad(F.pad(x, told, value=least), more, value=least)
    return pool(padded, window.kernel, window.strides, 0, window.dilations)


@runs("AveragePool")
def average_pool(c: Call) -> Tensor:
    """Sums over windows, divided by how many of their numbers count."""
    x, window, told, more = _pooled(c)
    if any(d != 1 for d in window.dilations):
        raise Unsupported("its window is dilated")
    pool = _numbered("avg_pool", len(window.kernel))
    ones = torch.ones_like(x[:1, :1])
    counted = F.pad(F.pad(ones, told, value=float(c.attr("count_include_pad", 0))), more)
    sums, counts = (pool(v, window.kernel, window.strides) for v in (F.pad(F.pad(x, told), more), counted))
    return sums / counts


@runs("DepthToSpace")
def depth_to_space(c: Call) -> Tensor:
    x, block = c.tensor(), c.attr("blocksize")
    if c.attr("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, channels, high, wide = x.shape
    split = x.reshape(n, block, block, channels // block**2, high, wide)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // block**2, high * block, wide * block)


@runs("SpaceToDepth")
def space_to_depth(c: Call) -> Tensor:
    x, block = c.tensor(), c.attr("blocksize")
    n, channels, high, wide = x.shape
    split = x.reshape(n, channels, high // block, block, wide // block, block)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, channels * block**2, high // block, wide // block)
