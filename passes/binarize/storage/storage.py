"""How weights in bits stand in a model.

``packed``: MatMul and Gemm in planes of signs become the operator ``MatMul1Bit`` where that pays; all other weights keep
their names and become the outputs of nodes that decode them from bits and scales: ``UnpackWeight`` and standard operators, all of
constants, so that a runtime computes them once when it opens the file. ``standard`` has the definitions of both operators
in their place, ``dense`` the floats that the bits stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ....graph.io.opset import raise_opset
from ....graph.io.spill import spilled
from ....graph.layer import Floats, Layer
from ....graph.model import Model
from ....kernels.operators import DOMAIN, attach
from ....kernels.packing import pack
from ...rewrite import weights
from ...rewrite.weights import Decoder, Work
from ..algorithms.codes import Code
from .inline import inline_definitions

FORMS = ("packed", "standard", "dense")
PRODUCTS = {"float": "MatMul1Bit", "int8": "MatMul1BitInt8"}
"""The operator that multiplies by bits, by what it makes of its input."""
_OPSET = 13


def store(model: Model, coded: Iterable[Bits], form: str, *, activations: str = "float") -> Model:
    """A copy of the model that holds these weights in bits. ``activations`` are what products by bits make of their input.

    Raises:
        BadModel: the operator set cannot be raised to 13.
    """
    coded = list(coded)
    if form == "dense":
        return _dense(model, coded)
    work = Work(raise_opset(model, max(model.opset, _OPSET)))
    for one in coded:
        if one.multiplies:
            one.multiply(work, one.where, PRODUCTS[activations])
        else:
            work.decode(one.where, one)
    made = work.finish()
    attach(made.proto)
    return inline_definitions(made) if form == "standard" else made


def _dense(model: Model, coded: list[Bits]) -> Model:
    changed = model.copy()
    for one in coded:
        changed.weights[one.where.weight] = one.where.weight_like(one.code.floats(), one.weight)
    return changed


@dataclass(frozen=True)
class Bits:
    """A layer, or a weight by itself, and what it becomes. ``multiplied`` by bits where it can be, else made floats.

    ``arrays`` are what is stored of the code, by what they are. Rows are outputs of all groups.

    Shapes: planes (planes, rows, bytes), scale (planes, rows, blocks), of flagged columns ``flagged`` likewise; shift
    (rows, blocks), column (groups, 1, columns), flag (1, 1, bytes), mask (1, rows, bytes), magnitude (salient weights,),
    step (rows, 1).
    """

    where: Layer
    code: Code
    weight: np.ndarray
    multiplied: bool = True

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        code, exact = self.code, self.multiplies  # the operator reads scales of 32 bits
        alpha = 1.0 if exact else self.where.alpha
        rows = code.levels.shape[0] * code.levels.shape[1]
        planes, shift = code.plane_scales()
        scale = (planes / alpha).reshape(len(planes), rows, -1)
        arrays = {"planes": pack(code.signs()).reshape(len(planes), rows, -1)}
        if code.flag is None:
            arrays["scale"] = _scales(scale, exact)
        else:
            arrays |= {"scale": _scales(scale[..., ::2], exact), "flagged": _scales(scale[..., 1::2], exact)}
            arrays["flag"] = pack(np.where(code.flag, -1, 1))[None, None]
        if shift is not None and not code.book.shift_is_sum:
            arrays["shift"] = _scales((shift / alpha).reshape(rows, -1), exact)
        if code.column is not None:
            arrays["column"] = _scales(code.column[:, None], exact)
        if code.salient is not None:
            mask = code.salient.mask.reshape(rows, -1)
            arrays["mask"] = pack(np.where(mask, np.int8(-1), np.int8(1)))[None]
            arrays["magnitude"] = code.salient.magnitude.reshape(rows, -1)[mask]
            arrays["step"] = _scales((code.salient.step / alpha).reshape(rows, 1), exact)
        return {name: spilled(value) for name, value in arrays.items()}

    @property
    def nbytes(self) -> int:
        """Of planes, scales and maps as they stand in the packed form."""
        return sum(a.nbytes for a in self.arrays.values())

    @property
    def block(self) -> int:
        return self.code.block or self.columns

    @property
    def columns(self) -> int:
        return int(self.code.levels.shape[-1])

    @property
    def multiplies(self) -> bool:
        """Whether it becomes the operator that multiplies by bits."""
        matrix = self.multiplied and not self.where.unfit and self.where.window is None
        return matrix and self.code.plain and self.weight.dtype == np.float32

    def same(self, other: Decoder, /) -> bool:
        return (
            isinstance(other, Bits)
            and self.arrays.keys() == other.arrays.keys()
            and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in self._pairs(other))
            and (self.block, self.where.axis) == (other.block, other.where.axis)
        )

    def _pairs(self, other: Bits) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(a, other.arrays[name]) for name, a in self.arrays.items()]

    def multiply(self, work: Work, layer: Layer, operator: str) -> None:
        """Put the operator in the place of a MatMul or Gemm."""
        node, lines = work.node(layer), Lines(work, layer.weight)
        x = node.input[0]
        if "column" in self.arrays:
            x = lines.add("Mul", [x, lines.constant("column", self.arrays["column"].reshape(-1))])
        operands = [x, *(lines.constant(name, self.arrays[name]) for name in ("planes", "scale"))]
        biased = node.op_type == "Gemm" and layer.bias is not None
        out = "" if biased else node.output[0]
        y = lines.add(operator, operands, out, node.name, domain=DOMAIN, channels=self.columns, block=self.block)
        if biased and layer.bias is not None:
            bias = layer.bias
            if layer.beta != 1:
                bias = lines.constant("bias", (layer.beta * work.original.weights[bias]).astype(np.float32))
            lines.add("Add", [y, bias], node.output[0])
        work.replace(layer, lines.nodes, domain=DOMAIN)

    def nodes(self, work: Work, weight: str, out: str, /) -> list[onnx.NodeProto]:
        lines = Lines(work, weight)
        matrix = self._matrix(lines)
        self._lay(lines, matrix, out)
        return lines.nodes

    def _matrix(self, lines: Lines) -> str:
        """Nodes that make the rows. Shapes: (rows, columns)."""
        arrays = self.arrays
        scale = lines.scale("scale", arrays["scale"])
        found = self._unpacked(lines, "planes", scale)
        if "flagged" in arrays:
            other = self._unpacked(lines, "planes", lines.scale("flagged", arrays["flagged"]))
            found = lines.add("Where", [self._where(lines, "flag"), other, found])
        if self.code.book.shifted:
            if "shift" in arrays:
                shift = lines.scale("shift", arrays["shift"])
            else:
                shift = lines.add("ReduceSum", [scale, lines.integers([0])], keepdims=0)
            found = lines.add("Add", [found, self._wide(lines, shift)])
        if "column" in arrays:
            groups, _, columns = arrays["column"].shape
            if groups > 1:
                found = lines.reshape(found, [groups, -1, columns])
            found = lines.add("Mul", [found, lines.scale("column", arrays["column"])])
            found = lines.reshape(found, [-1, columns])
        if "mask" in arrays:
            mask = self._where(lines, "mask")
            sign = self._unpacked(lines, "planes", lines.common(np.ones((1, 1, 1), np.float32)), whole=True)
            size = lines.add("Mul", [self._scattered(lines, mask), lines.scale("step", arrays["step"])])
            found = lines.add("Where", [mask, lines.add("Mul", [sign, size]), found])
        return found

    def _unpacked(self, lines: Lines, planes: str, scale: str, *, whole: bool = False) -> str:
        """Signs times scales: those of each block, or one for all."""
        block = self.columns if whole else self.block
        operands = [lines.constant(planes, self.arrays[planes]), scale]
        out = lines.add("UnpackWeight", operands, domain=DOMAIN, channels=self.columns, block=block)
        shape = (self.arrays[planes].shape[1], self.columns)  # which nobody can infer
        lines.work.model.graph.value_info.append(helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, shape))
        return out

    def _where(self, lines: Lines, bits: str) -> str:
        """Bits as truth values. Shapes: (rows, columns)."""
        one = lines.common(np.ones((1, 1, 1), np.float32))
        signs = self._unpacked(lines, bits, one, whole=True)
        return lines.add("Less", [signs, lines.common(np.zeros((), np.float32))])

    def _wide(self, lines: Lines, blocks: str) -> str:
        """One number for each column from one for each block."""
        _, rows, count = self.arrays["scale"].shape
        if count == 1:
            return blocks
        ends = lines.reshape(blocks, [rows, count, 1])
        each = lines.add("Expand", [ends, lines.integers([rows, count, self.block])])
        flat = lines.reshape(each, [rows, -1])
        return lines.add("Slice", [flat, *(lines.integers([n]) for n in (0, self.columns, 1))])

    def _scattered(self, lines: Lines, mask: str) -> str:
        """The n-th magnitude at the n-th place of the mask, and anything elsewhere. Shapes: (rows, columns)."""
        place = lines.add("CumSum", [self._flat(lines, mask), lines.common(np.zeros((), np.int64))])
        last = lines.add("Sub", [place, lines.common(np.ones((), np.int32))])
        index = lines.add("Max", [last, lines.common(np.zeros((), np.int32))])
        sizes = lines.add("Gather", [lines.constant("magnitude", self.arrays["magnitude"]), index])
        floats = lines.add("Cast", [sizes], to=onnx.TensorProto.FLOAT)
        return lines.reshape(floats, [-1, self.columns])

    def _flat(self, lines: Lines, mask: str) -> str:
        """Ones and noughts, one after the other."""
        return lines.reshape(lines.add("Cast", [mask], to=onnx.TensorProto.INT32), [-1])

    def _lay(self, lines: Lines, matrix: str, out: str) -> None:
        """From rows to the weight's shape and type."""
        shape, axis, rank = self.weight.shape, self.where.axis, self.weight.ndim
        if self.where.window is None:
            order = [axis, *(a for a in range(rank) if a != axis)]
            laid, perm = [shape[a] for a in order], [order.index(a) for a in range(rank)]
        elif prod(shape[2:]) == 1:
            laid, perm = list(shape), []
        else:
            laid, perm = [shape[0], *shape[2:], shape[1]], [0, rank - 1, *range(1, rank - 1)]
        steps: list[tuple[str, list[int], dict[str, Any]]] = []
        if self.where.window is not None or rank > 2:
            steps.append(("Reshape", laid, {}))
        if perm != sorted(perm):
            steps.append(("Transpose", [], {"perm": perm}))
        if self.weight.dtype != np.float32:
            steps.append(("Cast", [], {"to": helper.np_dtype_to_tensor_dtype(self.weight.dtype)}))
        *inner, last = steps or [("Identity", [], {})]
        for name, (op, to, attributes) in [*(("", one) for one in inner), (out, last)]:
            matrix = lines.add(op, [matrix, *([lines.integers(to)] if to else [])], name, **attributes)


class Lines(weights.Lines):
    """Nodes that decode bits, or multiply by them."""

    def add(self, op: str, inputs: list[str], out: str = "", name: str | None = None, **attributes: Any) -> str:
        out = out or self.work.names.fresh(f"{self.stem}/bits")
        self.nodes.append(helper.make_node(op, inputs, [out], name, **attributes))
        return out

    def common(self, value: np.ndarray) -> str:
        """A small constant that all weights share."""
        return self.work.constant("bits/constant", value)

    def integers(self, values: list[int]) -> str:
        return self.common(np.array(values, np.int64))

    def reshape(self, name: str, shape: list[int]) -> str:
        return self.add("Reshape", [name, self.integers(shape)])

    def scale(self, what: str, value: np.ndarray) -> str:
        """A constant, in 32 bits where the graph reads it."""
        name = self.constant(what, value)
        return name if value.dtype == np.float32 else self.add("Cast", [name], to=onnx.TensorProto.FLOAT)


def _scales(values: Floats, exact: bool) -> np.ndarray:
    """In 16 bits where nothing is lost, else in 32."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    fits = not exact and bool((half.astype(np.float64) == values).all())
    return np.ascontiguousarray(half if fits else values.astype(np.float32))
