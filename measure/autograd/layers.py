"""Convolutions, products and pools."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ...graph.layer import Window
from .call import OPERATORS, Operands, Step, Unsupported, made_of, runs, step

Tensor = torch.Tensor
_NUMBERED = (1, 2, 3)


def _numbered(name: str, rank: int) -> Callable[..., Tensor]:
    """What torch has for so many axes of pixels."""
    if rank not in _NUMBERED:
        raise Unsupported(f"it works on {rank} axes of pixels, not 1 to 3")
    function: Callable[..., Tensor] = getattr(F, f"{name}{rank}d")
    return function


def _window(c: Operands, position: int) -> Window:
    """How the node slides, and over how many axes; the weight at ``position`` says how far."""
    told = c.attr("kernel_shape")
    return Window.of(c.node, tuple(told) if told else (1,) * (c.rank(position) - 2))


def _pads(window: Window) -> list[int] | str:
    if window.pads is None:
        return "upper" if window.upper else "lower"
    return [*window.pads[0], *window.pads[1]]


def both_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: list[int], dilations: list[int], pads: list[int] | str
) -> tuple[list[int], list[int]]:
    """Padding before and behind each axis; in words where as many windows as fit strides are wanted."""
    rank = len(kernel)
    if not isinstance(pads, str):
        return pads[:rank], pads[rank:]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    total = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(sizes, strides, spans, strict=True)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if pads == "upper" else (large, small)


def last_first(begins: list[int], ends: list[int]) -> list[int]:
    """In the order of ``F.pad``: the last axis first."""
    return [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: list[int],
    pads: list[int] | str,
    dilations: list[int],
    groups: int,
) -> Tensor:
    """As torch's, with padding that may differ from end to end."""
    begins, ends = both_pads(x.shape[2:], weight.shape[2:], strides, dilations, pads)
    same = begins == ends
    x = x if same else F.pad(x, last_first(begins, ends))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
    return convolve(x, weight, bias, strides, begins if same else 0, dilations, groups)


@runs("Conv")
def conv(c: Operands) -> Step:
    window = _window(c, 1)
    convolve = _numbered("conv", len(window.kernel))
    strides, dilations, groups = list(window.strides), list(window.dilations), c.attr("group", 1)
    if window.pads and window.pads[0] == window.pads[1]:
        return step(convolve, c[0], c[1], c[2], strides, list(window.pads[0]), dilations, groups)
    return step(convolution, c[0], c[1], c[2], strides, _pads(window), dilations, groups)


def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: list[int],
    dilations: list[int],
    more: list[int],
    groups: int,
    pads: list[int] | str,
    wanted: list[int] | None,
) -> Tensor:
    """All that the kernel reaches, cut to what is asked for."""
    rank, kernel = weight.ndim - 2, weight.shape[2:]
    spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    y = spread(x, weight, None, strides, 0, 0, groups, dilations)
    full = [
        s * (n - 1) + d * (k - 1) + 1 + m
        for s, n, d, k, m in zip(strides, x.shape[2:], dilations, kernel, more, strict=True)
    ]
    if wanted is None and not isinstance(pads, str):
        begins, ends = pads[:rank], pads[rank:]
    else:
        wanted = wanted[-rank:] if wanted else [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        total = [f - w for f, w in zip(full, wanted, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        begins, ends = (small, large) if pads == "upper" else (large, small)
    y = F.pad(y, last_first([-b for b in begins], [m - e for m, e in zip(more, ends, strict=True)]))
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


@runs("ConvTranspose")
def conv_transpose(c: Operands) -> Step:
    rank = len(c.attr("kernel_shape", ())) or c.rank(1) - 2
    _numbered("conv_transpose", rank)
    auto = {"SAME_UPPER": "upper", "SAME_LOWER": "lower"}.get(c.attr("auto_pad", "NOTSET"))
    return step(
        transposed_convolution,
        *(c[0], c[1], c[2]),
        c.attr("strides", [1] * rank),
        c.attr("dilations", [1] * rank),
        c.attr("output_padding", [0] * rank),
        c.attr("group", 1),
        auto or c.attr("pads", [0] * 2 * rank),
        c.attr("output_shape"),
    )


def gemm(
    a: Tensor, b: Tensor, bias: Tensor | None, alpha: float, beta: float, turned_a: bool, turned_b: bool
) -> Tensor:
    product = (a.T if turned_a else a) @ (b.T if turned_b else b)
    product = product if alpha == 1 else alpha * product
    return product if bias is None else product + (bias if beta == 1 else beta * bias)


@runs("Gemm")
def matrix_product(c: Operands) -> Step:
    turned = (bool(c.attr(name, 0)) for name in ("transA", "transB"))
    return step(gemm, c[0], c[1], c[2], c.attr("alpha", 1.0), c.attr("beta", 1.0), *turned)


@runs("Einsum")
def einsum(c: Operands) -> Step:
    return step(torch.einsum, c.attr("equation").replace(" ", ""), *c.all)


def pooling_pads(
    sizes: Sequence[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int] | str,
    ceil: bool,
) -> tuple[list[int], list[int]]:
    """As ``F.pad`` wants it: what is told as far as windows reach, and up to the end of the last window.

    A last window that starts behind the input is none.
    """
    begins, ends = both_pads(sizes, kernel, strides, dilations, pads)
    last = []
    for n, k, s, d, b, e in zip(sizes, kernel, strides, dilations, begins, ends, strict=True):
        reach = d * (k - 1) + 1
        room = n + b + e - reach
        steps = -(-room // s) if ceil else room // s
        steps -= int(steps * s >= n + b)
        last.append(steps * s + reach - n - b)
    told = last_first(begins, [min(e, n) for e, n in zip(ends, last, strict=True)])
    return told, last_first([0] * len(last), [max(0, n - e) for e, n in zip(ends, last, strict=True)])


def max_pool(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int] | str, ceil: bool
) -> Tensor:
    told, more = pooling_pads(x.shape[2:], kernel, strides, dilations, pads, ceil)
    padded = F.pad(F.pad(x, told, value=-math.inf), more, value=-math.inf)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return pool(padded, kernel, strides, 0, dilations)


@runs("MaxPool")
def largest_in_windows(c: Operands) -> Step:
    window = _window(c, 0)
    pool = _numbered("max_pool", len(window.kernel))
    kernel, strides, dilations = list(window.kernel), list(window.strides), list(window.dilations)
    pads, ceil = _pads(window), bool(c.attr("ceil_mode", 0))
    if not ceil and not any(pads):
        return step(pool, c[0], kernel, strides, 0, dilations)
    return step(max_pool, c[0], kernel, strides, dilations, pads, ceil)


def average_pool(
    x: Tensor, kernel: list[int], strides: list[int], pads: list[int] | str, ceil: bool, counted: bool
) -> Tensor:
    """Sums over windows, divided by how many of their numbers count."""
    told, more = pooling_pads(x.shape[2:], kernel, strides, [1] * len(kernel), pads, ceil)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    ones = F.pad(F.pad(torch.ones_like(x[:1, :1]), told, value=float(counted)), more)
    return pool(F.pad(F.pad(x, told), more), kernel, strides) / pool(ones, kernel, strides)


@runs("AveragePool")
def average_in_windows(c: Operands) -> Step:
    window = _window(c, 0)
    if any(d != 1 for d in window.dilations):
        raise Unsupported("its window is dilated")
    pool = _numbered("avg_pool", len(window.kernel))
    kernel, strides, pads = list(window.kernel), list(window.strides), _pads(window)
    ceil, counted = bool(c.attr("ceil_mode", 0)), bool(c.attr("count_include_pad", 0))
    if not ceil and not any(pads):
        return step(pool, c[0], kernel, strides)
    return step(average_pool, c[0], kernel, strides, pads, ceil, counted)


def global_average(x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


def global_max(x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


OPERATORS["GlobalAveragePool"] = made_of(global_average)
OPERATORS["GlobalMaxPool"] = made_of(global_max)


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Blocks of channels become blocks of pixels, the channel last."""
    n, channels, high, wide = x.shape
    split = x.reshape(n, block, block, channels // block**2, high, wide)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // block**2, high * block, wide * block)


@runs("DepthToSpace")
def more_pixels(c: Operands) -> Step:
    told = c[0], c.attr("blocksize")
    return step(F.pixel_shuffle if c.attr("mode", "DCR") == "CRD" else depth_to_space, *told)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    n, channels, high, wide = x.shape
    split = x.reshape(n, channels, high // block, block, wide // block, block)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, channels * block**2, high // block, wide // block)


OPERATORS["SpaceToDepth"] = made_of(space_to_depth, blocksize=1)
