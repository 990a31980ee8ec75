"""Put integers into a model in the place of float weights.

A weight keeps its name: it becomes the output of a DequantizeLinear node before its first reader, so that no reader
changes. For ONNX Runtime, operators that read the integers themselves are used where they are faster; elsewhere nodes of
constants stand in for DequantizeLinear: it computes those once, when it opens the file, but DequantizeLinear in every run.
So do integers of other numbers of bits than 4, 8 and 16, which no type of their own holds everywhere.
Nodes that read the same weight and were rounded alike read the same integers; those that were not rounded, or
otherwise, read floats that are made of them once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import onnx
from onnx import helper

from ....graph.index import index_of
from ....graph.io.opset import raise_opset
from ....graph.model import Model
from ...calibration.walk import Rounded
from ...precision.grid import CARRIERS, Quantized
from ...precision.layout import Laid, laid
from ...rewrite.weights import Decoder, Work
from .digits import Lines, digit_bits, pack_digits
from .nbits import fits_nbits, write_nbits
from .tables import rows_fit, write_rows

Form = Literal["dq", "bytes", "once", "nbits"]
Chosen = Callable[[Rounded[Quantized]], Form]
_OPSETS = {4: 21, 8: 13, 16: 21}
"""By bits of the stored type: the first operator set in which DequantizeLinear takes it along an axis."""
_BLOCKED, _HALF, _CONSTANTS, _ANY = 21, 19, 13, 1 << 30
"""And in which it takes blocks, and scales of 16 bits; in which nodes of constants mean the same everywhere."""


def store(
    model: Model, rounded: Collection[Rounded[Quantized]], *, form: Form | Chosen = "dq", newest: int = _ANY
) -> Model:
    """A copy of the model that holds these weights in integers, its operator set raised as far as they need.

    ``dq`` writes DequantizeLinear, which all runtimes know; with ``bytes`` it reads integers of 8 bits, which kernels that
    compute in integers want, made once of fewer. ``once`` are floats that are made when a file is opened. ``nbits`` is for
    ONNX Runtime: MatMulNBits in the place of each MatMul and Gemm that it can do, ``once`` for all else, and for
    what would need an operator set above the ``newest``.

    Raises:
        BadModel: the operator set cannot be raised that far.
    """
    chosen: Chosen = form if callable(form) else lambda _: form
    writers = [_writer(one, model.weights[one.layer.weight], chosen(one), newest) for one in rounded]
    least = max((opset for opset, _ in writers), default=0)
    rest = _rest(model, rounded)
    least = max([least, *(one.opset for one in rest.values())])
    work = Work(raise_opset(model, max(model.opset, least)))
    work.rest.update(rest)
    for _, write in writers:
        write(work)
    return work.finish()


def _rest(model: Model, rounded: Collection[Rounded[Quantized]]) -> dict[str, Dequantized]:
    """What other readers of a rounded weight get, so that it is not stored as floats beside its integers."""
    index, found = index_of(model), dict[str, Dequantized]()
    places = {index.place[one.layer.node] for one in rounded}
    for one in sorted(rounded, key=lambda one: -one.quantized.grid.bits):
        name = one.layer.weight
        if name not in found and any(read.place not in places for read in index.reads(name)):
            found[name] = Dequantized(laid(one.layer, one.quantized, model.weights[name]), "once")
    return found


def _writer(one: Rounded[Quantized], weight: np.ndarray, form: Form, newest: int) -> tuple[int, Callable[[Work], None]]:
    """The operator set that is needed, and what writes the integers."""
    layer, quantized = one.layer, one.quantized
    if form == "nbits" and fits_nbits(layer, quantized, weight):
        return 0, partial(write_nbits, layer=layer, quantized=quantized)
    found = laid(layer, quantized, weight)
    if rows_fit(layer, weight):
        return _CONSTANTS, partial(write_rows, layer=layer, form=found)
    decoder = Dequantized(found, "once" if form == "nbits" else form)
    if decoder.opset > newest:
        decoder = Dequantized(found, "once")
    return decoder.opset, partial(Work.decode, layer=layer, form=decoder)


@dataclass(frozen=True)
class Dequantized:
    """DequantizeLinear in every run, or nodes that a runtime computes when it opens the file: see ``store``."""

    laid: Laid
    form: Form

    @property
    def opset(self) -> int:
        """The operator set that it needs."""
        if self._folds:
            return _CONSTANTS
        bits = 8 if self.form == "bytes" else self.laid.bits
        half = _HALF if self.laid.scale.dtype != np.float32 else 0
        return max(_OPSETS[bits], _BLOCKED if self.laid.block else 0, half)

    @property
    def _folds(self) -> bool:
        return self.form == "once" or (self.form == "dq" and self.laid.grid.bits not in _OPSETS)

    def same(self, other: Decoder) -> bool:
        return isinstance(other, Dequantized) and self.form == other.form and self.laid.same(other.laid)

    def nodes(self, work: Work, weight: str, out: str) -> list[onnx.NodeProto]:
        kind = work.original.weights[weight].dtype
        made = out if kind == self.laid.scale.dtype else work.names.fresh(f"{weight}/float")
        lines = Lines(work, weight)
        nodes = self._once(lines, made) if self._folds else self._every_run(lines, made)
        if made != out:
            to = helper.np_dtype_to_tensor_dtype(kind)
            nodes.append(helper.make_node("Cast", [made], [out], work.names.fresh(f"{weight}/Cast"), to=to))
        return nodes

    def _every_run(self, lines: Lines, out: str) -> list[onnx.NodeProto]:
        one, zero = self.laid, self.laid.zero
        if self.form == "bytes" and one.grid.bits < 8:
            kind = np.dtype(CARRIERS[8, one.grid.signed])
            found = self._integers(lines, one.integers)
            operands = [lines.add("Cast", [found], to=helper.np_dtype_to_tensor_dtype(kind))]
            zero = None if zero is None else zero.astype(kind)
        else:
            operands = [lines.constant("q", one.integers)]
        operands.append(lines.constant("scale", one.scale))
        if zero is not None:
            operands.append(lines.constant("zero", zero))
        blocks = {"block_size": one.block} if one.block else {}
        lines.add("DequantizeLinear", operands, out, axis=one.axis, **blocks)
        lines.nodes[-1].name = lines.work.names.fresh(f"{lines.stem}/Dequantize")
        return lines.nodes

    def _once(self, lines: Lines, out: str) -> list[onnx.NodeProto]:
        """Nodes of constants only: (integers - zero) * scale, in the weight's shape."""
        integers, scale, zero = self.laid.once()
        found = self._integers(lines, integers)
        if zero is not None:
            found = lines.add("Sub", [found, lines.constant("zero", zero)])
        shape, axis = self.laid.integers.shape, self.laid.axis
        blocked, whole = integers.shape != shape, integers.size == self.laid.integers.size
        found = lines.add("Mul", [found, lines.constant("scale", scale)], "" if blocked else out)
        if blocked:
            given = [-1 if a == axis else n for a, n in enumerate(shape)]
            found = lines.add("Reshape", [found, lines.shape(*given)], out if whole else "")
            if not whole:
                ends = (lines.shape(n) for n in (0, shape[axis], axis))
                lines.add("Slice", [found, *ends], out)
        return lines.nodes

    def _integers(self, lines: Lines, integers: np.ndarray) -> str:
        """As floats of the scale's type."""
        grid, to = self.laid.grid, helper.np_dtype_to_tensor_dtype(self.laid.scale.dtype)
        if grid.bits >= 8:
            return lines.add("Cast", [lines.constant("q", integers)], to=to)
        (packed,) = pack_digits(integers.reshape(1, -1), grid)
        found = lines.looked_up(lines.constant("q", packed if len(packed) > 1 else packed[0]), grid)
        if packed.shape[-1] * 8 // digit_bits(grid.bits) > integers.size:
            found = lines.cut(lines.add("Reshape", [found, lines.shape(-1)]), integers.size)
        found = lines.add("Reshape", [found, lines.shape(*integers.shape)])
        return found if self.laid.scale.dtype == np.float32 else lines.add("Cast", [found], to=to)
