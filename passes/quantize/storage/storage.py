"""Put integers into a model in the place of float weights.

A weight keeps its name: it becomes the output of a DequantizeLinear node before its first reader, so that no reader
changes. For ONNX Runtime, operators that read the integers themselves are used where it has them; elsewhere a Cast and a
Mul stand in for DequantizeLinear: it computes those once, when it opens the file, but DequantizeLinear in every run.
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
from .nbits import fits_nbits, write_nbits
from .tables import row_writer

Form = Literal["dq", "bytes", "nbits"]
_OPSETS = {2: 25, 4: 21, 8: 13, 16: 21}
"""By bits of the stored type: the first operator set in which DequantizeLinear takes it along an axis."""
_BLOCKED, _HALF = 21, 19
"""And in which it takes blocks, and scales of 16 bits."""


def store(model: Model, rounded: Collection[Rounded[Quantized]], *, form: Form = "dq") -> Model:
    """A copy of the model that holds these weights in integers, its operator set raised as far as they need.

    ``dq`` writes DequantizeLinear, which all runtimes know; with ``bytes`` it reads integers of 8 bits, which kernels that
    compute in integers want, made once of fewer. ``nbits`` is for ONNX Runtime: MatMulNBits in the place of
    each MatMul and Gemm that it can do, floats that are made once for all else.

    Raises:
        BadModel: the operator set cannot be raised that far.
    """
    writers = [_writer(one, model.weights[one.layer.weight], form) for one in rounded]
    least = max((opset for opset, _ in writers), default=0)
    rest = _rest(model, rounded)
    least = max([least, *(_opset(one.form) for one in rest.values())])
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
            found[name] = Dequantized(laid(one.layer, one.quantized, model.weights[name]), once=True)
    return found


def _writer(one: Rounded[Quantized], weight: np.ndarray, form: Form) -> tuple[int, Callable[[Work], None]]:
    """The operator set that is needed, and what writes the integers."""
    layer, quantized = one.layer, one.quantized
    if form == "nbits" and fits_nbits(layer, quantized, weight):
        return 0, partial(write_nbits, layer=layer, quantized=quantized)
    found = laid(layer, quantized, weight)
    rows = row_writer(layer, found, weight, standard=form != "nbits")
    if rows is not None:
        return 0, partial(rows, layer=layer, form=found)
    return _opset(found), partial(Work.decode, layer=layer, form=Dequantized(found, form == "nbits", form == "bytes"))


def _opset(one: Laid) -> int:
    half = _HALF if one.scale.dtype != np.float32 else 0
    return max(_OPSETS[one.bits], _BLOCKED if one.block else 0, half)


@dataclass(frozen=True)
class Dequantized:
    """DequantizeLinear in every run, or with ``once`` nodes that a runtime computes when it opens the file.

    ``widened`` integers have 8 bits, of which those of fewer are made when the file is opened.
    """

    form: Laid
    once: bool
    widened: bool = False

    def same(self, other: Decoder) -> bool:
        return (
            isinstance(other, Dequantized)
            and self.once == other.once
            and self.widened == other.widened
            and self.form.same(other.form)
        )

    def nodes(self, work: Work, weight: str, out: str) -> list[onnx.NodeProto]:
        form, kind = self.form, work.original.weights[weight].dtype
        made = out if kind == form.scale.dtype else work.names.fresh(f"{weight}/float")
        once = form.once() if self.once else None
        nodes = self._every_run(work, weight, made) if once is None else self._once(work, weight, made, *once)
        if made != out:
            to = helper.np_dtype_to_tensor_dtype(kind)
            nodes.append(helper.make_node("Cast", [made], [out], work.names.fresh(f"{weight}/Cast"), to=to))
        return nodes

    def _every_run(self, work: Work, weight: str, out: str) -> list[onnx.NodeProto]:
        form, nodes = self.form, list[onnx.NodeProto]()
        integers, zero = work.constant(f"{weight}/q", form.integers), form.zero
        if self.widened and form.bits < 8:
            kind = CARRIERS[8, form.integers.dtype.name.startswith("int")]
            wide, title = work.names.fresh(f"{weight}/q8"), work.names.fresh(f"{weight}/Widen")
            to = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
            nodes.append(helper.make_node("Cast", [integers], [wide], title, to=to))
            integers, zero = wide, None if zero is None else zero.astype(kind)
        operands = [integers, work.constant(f"{weight}/scale", form.scale)]
        if zero is not None:
            operands.append(work.constant(f"{weight}/zero", zero))
        title = work.names.fresh(f"{weight}/Dequantize")
        node = helper.make_node("DequantizeLinear", operands, [out], title, axis=form.axis)
        if form.block:
            node.attribute.append(helper.make_attribute("block_size", form.block))
        return [*nodes, node]

    def _once(
        self, work: Work, weight: str, out: str, integers: np.ndarray, scale: np.ndarray, zero: np.ndarray | None
    ) -> list[onnx.NodeProto]:
        """Nodes of constants only: (Cast(integers) - zero) * scale, in the weight's shape."""
        shape = work.original.weights[weight].shape
        steps: list[tuple[str, list[str]]] = [("Cast", [])]
        if zero is not None:
            steps.append(("Sub", [work.constant(f"{weight}/zero", zero)]))
        steps.append(("Mul", [work.constant(f"{weight}/scale", scale)]))
        if integers.shape != shape:
            steps.append(("Reshape", [work.constant(f"{weight}/shape", np.array(shape, np.int64))]))
        nodes, name = [], work.constant(f"{weight}/q", integers)
        for k, (op, operands) in enumerate(steps):
            made = out if k == len(steps) - 1 else work.names.fresh(f"{weight}/{op.lower()}")
            node = helper.make_node(op, [name, *operands], [made], work.names.fresh(f"{weight}/{op}"))
            if op == "Cast":
                node.attribute.append(helper.make_attribute("to", helper.np_dtype_to_tensor_dtype(scale.dtype)))
            nodes.append(node)
            name = made
        return nodes
