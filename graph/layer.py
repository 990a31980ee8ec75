"""A weighted layer: a node and the constant that it multiplies by, seen as matrices that are applied to rows.

``y = rows @ W.T + b``: the row of a convolution is the patch under one position of its output. Columns of a
convolution's matrix are ordered by kernel position, then by input channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .errors import BadModel
from .model import Model
from .nodes import attribute, display_name

Floats = NDArray[Any]
Ints = NDArray[np.int64]
ALL = slice(None)
AT_ONCE = 1 << 20
"""Weights."""


@dataclass(frozen=True)
class Window:
    """How a convolution slides. ``pads`` are (begins, ends), None for ``auto_pad``."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, ...], tuple[int, ...]] | None
    upper: bool = True

    @classmethod
    def of(cls, node: onnx.NodeProto, kernel: tuple[int, ...]) -> Window:
        """The window of a Conv. Raises BadModel where its kernel, which may be computed, has other axes than its attributes."""
        ones, zeros = (1,) * len(kernel), (0,) * (2 * len(kernel))
        auto = attribute(node, "auto_pad", "NOTSET")
        flat = zeros if auto == "VALID" else tuple(attribute(node, "pads", None) or zeros)
        strides, dilations = (tuple(attribute(node, name, None) or ones) for name in ("strides", "dilations"))
        if {len(strides), len(dilations), len(flat) / 2} != {len(kernel)}:
            raise BadModel(
                f"node {display_name(node)!r} ({node.op_type}) is wrong",
                why=f"its kernel has {len(kernel)} axes, its strides, dilations or pads are for another number",
                fix="the file is damaged; export it again",
            )
        return cls(
            kernel,
            strides,
            dilations,
            (flat[: len(kernel)], flat[len(kernel) :]) if auto in ("NOTSET", "VALID", "") else None,
            auto != "SAME_LOWER",
        )

    @property
    def plain(self) -> bool:
        """Whether a row is just one pixel."""
        still = all(s == 1 for s in self.strides) and not any(any(p) for p in self.pads or ((1,),))
        return still and all(k == 1 for k in self.kernel)

    def padding(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Pads for an input of this size."""
        if self.pads is not None:
            return self.pads
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        total = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(size, self.strides, spans, strict=True)]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        return (small, large) if self.upper else (large, small)

    def places(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Output size for an input of this size."""
        begins, ends = self.padding(size)
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        return tuple(
            (n + b + e - span) // s + 1
            for n, b, e, span, s in zip(size, begins, ends, spans, self.strides, strict=True)
        )


@dataclass(frozen=True)
class Layer:
    """Input ``operand`` of a node, a constant of this ``shape``, multiplied with ``x``.

    ``node`` is the node's first output, ``name`` what users call it and ``place`` where it stands in the graph.
    ``output`` is the tensor after the bias, which of a MatMul is a constant Add. Indices of the weight's ``axis`` are
    rows of its matrices, of which ``groups`` stand side by side in a grouped convolution. ``x_axis`` of ``x`` is summed
    over, ``y_axis`` of the output counts what the layer makes. ``unfit`` says why rows, matrix and offset are not all
    there is to the output; empty if they are.
    """

    node: str
    name: str
    op: str
    place: int
    operand: int
    x: str
    weight: str
    shape: tuple[int, ...]
    output: str
    bias: str | None = None
    axis: int = 0
    x_axis: int = -1
    y_axis: int = -1
    groups: int = 1
    window: Window | None = None
    alpha: float = 1.0
    beta: float = 1.0
    unfit: str = ""

    @property
    def outputs(self) -> int:
        """Rows of each matrix."""
        return self.shape[self.axis] // self.groups

    @property
    def columns(self) -> int:
        """Columns of each matrix."""
        return prod(n for a, n in enumerate(self.shape) if a != self.axis)

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.window.kernel if self.window is not None else ()

    @property
    def positions(self) -> int:
        """Kernel positions."""
        return prod(self.kernel)

    @property
    def channels(self) -> int:
        """Input channels of each group."""
        return self.columns // self.positions

    @property
    def column_channels(self) -> Ints:
        """Input channel of each column of each matrix. Shapes: (groups, columns)."""
        channels = np.arange(self.groups * self.channels).reshape(self.groups, -1)
        return np.tile(channels, (1, self.positions))

    @property
    def parts(self) -> list[slice]:
        """Outputs that are worked on together where rows do not depend on each other, so that little memory is taken."""
        few = max(1, AT_ONCE // max(1, self.groups * self.columns))
        return [slice(at, at + few) for at in range(0, self.outputs, few)] if few < self.outputs else [ALL]

    def folded(self, array: NDArray[Any]) -> NDArray[Any]:
        """What has the weight's shape, moved into matrices. Shapes: -> (groups, outputs, columns)."""
        if self.window is not None:
            g, o, i = self.groups, array.shape[0], array.shape[1]
            return array.reshape(g, o // g, i, -1).transpose(0, 1, 3, 2).reshape(g, o // g, -1)
        rows = np.moveaxis(array, self.axis, 0)
        return rows.reshape(1, len(rows), -1)

    def unfolded(self, matrices: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The inverse of ``folded``."""
        if self.window is not None:
            g, o, i = self.groups, shape[0], shape[1]
            return matrices.reshape(g, o // g, -1, i).transpose(0, 1, 3, 2).reshape(shape)
        rest = [n for a, n in enumerate(shape) if a != self.axis]
        return np.moveaxis(matrices.reshape(shape[self.axis], *rest), 0, self.axis)

    def matrix(self, weight: Floats, outputs: slice = ALL) -> Floats:
        """The weight as matrices that rows are multiplied by, or some of their outputs. Shapes: -> (groups, outputs,
        columns)."""
        return self.alpha * np.asarray(self.folded(weight)[:, outputs], dtype=np.float64)

    def weight_like(self, matrix: Floats, weight: Floats) -> Floats:
        """The inverse of ``matrix``, with the shape and type of ``weight``."""
        return np.ascontiguousarray(self.unfolded(matrix, weight.shape) / self.alpha, dtype=weight.dtype)

    def offset(self, model: Model) -> Floats | None:
        """What the bias adds. Shapes: (groups, outputs per group). None where the layer has none."""
        if self.bias is None:
            return None
        return (self.beta * np.asarray(model.weights[self.bias], dtype=np.float64)).reshape(self.groups, -1)

    def bias_like(self, offset: Floats, bias: Floats) -> Floats:
        return np.ascontiguousarray((offset / self.beta).reshape(bias.shape), dtype=bias.dtype)
