"""Tables whose rows are looked up: only the rows that are read become floats.

Dequantizing the whole table before each look-up takes as long as reading all of it.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from ....graph.layer import Layer
from ...precision.grid import Grid
from ...precision.layout import Laid
from ...rewrite.weights import Work
from .digits import Lines, digit_bits, pack_digits


def rows_fit(layer: Layer, weight: np.ndarray) -> bool:
    """Whether it is a table whose rows can be read as integers."""
    return layer.op == "Gather" and weight.dtype in (np.float32, np.float16)


def write_rows(work: Work, layer: Layer, form: Laid) -> None:
    """Make a Gather read rows of integers, and scale those."""
    lines, (out,), index = Lines(work, layer.weight), work.node(layer).output, work.node(layer).input[1]
    integers, scale, zero = form.once()
    found = _read(lines, index, form.grid, integers)
    if form.scale.dtype != np.float32:
        found = lines.add("Cast", [found], to=helper.np_dtype_to_tensor_dtype(form.scale.dtype))
    if zero is not None:
        found = lines.add("Sub", [found, lines.add("Gather", [lines.constant("zero", zero), index], axis=0)])
    scales = lines.add("Gather", [lines.constant("scale", scale), index], axis=0)
    found = lines.add("Mul", [found, scales], "" if form.block else out)
    if form.block:
        columns, whole = form.integers.shape[1], integers.size == form.integers.size
        found = _shaped(lines, found, index, [-1], out if whole else "")
        if not whole:
            lines.cut(found, columns, out)
    work.replace(layer, lines.nodes)


def _read(lines: Lines, index: str, grid: Grid, integers: np.ndarray) -> str:
    """Rows of integers as floats. Shapes: integers (rows, ...) -> (*index, ...)."""
    if grid.bits >= 8:
        read = lines.add("Gather", [lines.constant("q", integers), index], axis=0)
        return lines.add("Cast", [read], to=TensorProto.FLOAT)
    packed = pack_digits(integers.reshape(len(integers), -1), grid)
    packed = packed if packed.shape[1] > 1 else packed[:, 0]
    read = lines.add("Gather", [lines.constant("q", packed), index], axis=0)
    found, length = lines.looked_up(read, grid), integers[0].size
    if packed.shape[-1] * 8 // digit_bits(grid.bits) > length:
        found = lines.cut(_shaped(lines, found, index, [-1]), length)
        return _shaped(lines, found, index, list(integers.shape[1:])) if integers.ndim > 2 else found
    return _shaped(lines, found, index, list(integers.shape[1:]))


def _shaped(lines: Lines, rows: str, index: str, shape: list[int], out: str = "") -> str:
    """Each row in this shape."""
    front = lines.add("Shape", [index])
    return lines.add("Reshape", [rows, lines.add("Concat", [front, lines.shape(*shape)], axis=0)], out)
