"""Windows that slide: strides, dilations and padding, as ONNX and TFLite say them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.nodes import attribute
from ..builder import Builder
from ..program import Tensor

SAME, VALID = 0, 1


@dataclass(frozen=True)
class Window:
    """Of each axis that a window slides along: its length, stride, dilation, and padding at both ends."""

    lengths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether TFLite's padding SAME is this padding: the output has one window a stride, the odd row at the end."""
        wanted = [_same(n, o) for n, o in zip(self.sizes, self._spans(), strict=True)]
        return all(pair == (b, e) for pair, b, e in zip(wanted, self.begins, self.ends, strict=True))

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.begins, self.ends, strict=True))

    def _spans(self) -> list[tuple[int, int]]:
        return [((k - 1) * d + 1, s) for k, d, s in zip(self.lengths, self.dilations, self.strides, strict=True)]

    def options(self) -> dict[str, int]:
        """Strides and dilations; the first of a single axis is 1."""
        strides, dilations = ((1,) * (2 - len(v)) + v for v in (self.strides, self.dilations))
        return {
            "strideH": strides[0],
            "strideW": strides[1],
            "dilationHFactor": dilations[0],
            "dilationWFactor": dilations[1],
        }


def _same(size: int, span: tuple[int, int]) -> tuple[int, int]:
    """Padding SAME of an axis of a size, for a window that spans so much at a stride."""
    length, stride = span
    total = max(0, (-(-size // stride) - 1) * stride + length - size)
    return total // 2, total - total // 2


def window(node: onnx.NodeProto, dims: Sequence[int], lengths: Sequence[int], out: Sequence[int]) -> Window:
    """``dims`` and ``out`` are the shapes of input and output as ONNX has them; trailing padding follows from them."""
    axes = len(lengths)
    strides = tuple(attribute(node, "strides", None) or [1] * axes)
    dilations = tuple(attribute(node, "dilations", None) or [1] * axes)
    spans = [(k - 1) * d + 1 for k, d in zip(lengths, dilations, strict=True)]
    sizes = tuple(dims[2:])
    total = [max(0, (o - 1) * s + k - n) for o, s, k, n in zip(out[2:], strides, spans, sizes, strict=True)]
    mode, pads = attribute(node, "auto_pad", "NOTSET"), attribute(node, "pads", None) or [0] * 2 * axes
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        begins = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
        ends = [t - b for t, b in zip(total, begins, strict=True)]
    else:
        begins = list(pads[:axes])
        # What no window reaches need not be there; what ceil_mode reaches beyond must.
        ends = [max(0, t - b) for t, b in zip(total, begins, strict=True)]
    found = Window(tuple(lengths), strides, dilations, tuple(begins), tuple(ends), sizes)
    given = Window(tuple(lengths), strides, dilations, tuple(begins), tuple(pads[axes:]), sizes)
    return given if mode == "NOTSET" and given.same else found


def padded(x: Tensor, found: Window, make: Builder, fill: float = 0.0) -> tuple[Tensor, int]:
    """The input, with padding put around it where the operator's own would be another, and the operator's padding."""
    if not any((*found.begins, *found.ends)):
        return x, VALID
    if found.same:
        return x, SAME
    return surround(x, [(0, 0), *found.padding, (0, 0)], make, fill), VALID


def surround(x: Tensor, pairs: Sequence[tuple[int, int]], make: Builder, fill: float = 0.0) -> Tensor:
    """Numbers around a tensor: ``fill`` as a real number; of integers the lowest there is, if that is -inf."""
    shape = [n + b + e for n, (b, e) in zip(x.shape, pairs, strict=True)]
    operands: list[Tensor | None] = [x, make.constant(np.array(pairs, np.int32))]
    if fill == 0:
        return make.emit("PAD", operands, shape, x.kind)
    value = np.array(fill, np.float32)
    if not np.isfinite(fill):
        limits = np.finfo(np.float32) if x.kind.dtype.kind == "f" else np.iinfo(x.kind.dtype)
        value = np.array(limits.min if fill < 0 else limits.max, x.kind.dtype)
    return make.emit("PADV2", [*operands, make.constant(value, x.kind)], shape, x.kind)
