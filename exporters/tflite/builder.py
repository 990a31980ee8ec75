"""What conversions write with: operands in the order of axes they want, operators, constants, results.

A Transpose costs nothing here: the tensor stays as it is stored, and its axes get other names. Only who reads it in
another order has it moved, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx

from ...graph.nodes import as_ints
from .coded import Coded
from .plan import Plan, Step, shifted
from .program import FLOAT, Kind, Op, Order, Program, Scales, Tensor, plain, shaped
from .table import Refused

_SCALED = ("ADD", "SUB")
"""Operators that take scales of 16-bit integers for powers of two unless told otherwise."""
Held = tuple[Tensor, Order]
ACTS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
"""Rectifiers as the schema numbers them."""


class Builder:
    """Writes one step after the other; ``step`` is the present one."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.program = plan, Program()
        self.step = Step(onnx.NodeProto(), "")
        self._held: dict[str, Held] = {}
        self._moved: dict[tuple[Tensor, Order], Tensor] = {}
        self._constants: dict[tuple[str, Order, bool], Tensor] = {}

    def dims(self, name: str, *, follows: bool = False) -> tuple[int, ...]:
        """Raises Refused where the shape of a tensor follows from what is computed."""
        if name not in self.plan.shapes.dims:
            why = f"the shape of {name!r} is known only when it runs"
            raise Refused(why, "pin it with --shape or --input", follows=follows)
        return self.plan.shapes.dims[name]

    def known(self, name: str) -> np.ndarray | None:
        """The value of a constant, restored where it is stored as integers."""
        value, node = self.plan.value(name), self.plan.restored(name)
        if node is None or value is None:
            return value
        kind = self.plan.scales(node)
        return None if kind is None else real(shifted(value), kind)

    def ints(self, name: str) -> list[int]:
        """Raises Refused where an operand is computed that must be known."""
        value = self.known(name)
        if value is None:
            raise Refused(f"its operand {name!r} is computed", "fold it into a constant")
        return as_ints(value)

    def kind(self, name: str) -> Kind:
        """Element type of an ONNX tensor that is no scaled integer."""
        return Kind(onnx.helper.tensor_dtype_to_np_dtype(self.plan.shapes.dtypes[name]))

    @property
    def wanted(self) -> Kind:
        """What the step's first output is to be."""
        rounded = self.step.rounded.get(self.step.output)
        return rounded.kind if rounded else self.kind(self.step.output)

    def hold(self, name: str, tensor: Tensor, order: Order | None = None) -> None:
        tensor.name = tensor.name or name
        self._held[name] = tensor, plain(tensor.rank) if order is None else order

    def has(self, name: str) -> bool:
        """Whether something is held or known of that name; nothing is of the empty one."""
        return not name or name in self._held or name in self.plan.constants

    def held(self, name: str) -> Held:
        """A tensor as it is stored, and in which order."""
        if self.plan.value(name) is not None:
            return self.read(name), plain(len(self.dims(name)))
        node = self.plan.restored(name)
        if node is None:
            return self._held[name]
        if self.step.integer:
            return self.integers(name)
        if name not in self._held:
            tensor, order = self.integers(name)
            self._held[name] = self.emit("DEQUANTIZE", [tensor], tensor.shape, FLOAT), order
        return self._held[name]

    def integers(self, name: str) -> Held:
        """What a tensor is restored from."""
        node = self.plan.restored(name)
        kind = self.plan.scales(node) if node is not None else None
        if node is None or kind is None:
            raise Refused(f"the scales of {name!r} are computed, or in blocks", "quantize with --scheme int8 or w8")
        tensor, order = self._held[node.input[0]]
        if tensor.kind.scales is None:  # an operator that only moves integers, which stand for what the reader says
            tensor.kind = Kind(tensor.kind.dtype, kind.scales)
        if not kind.same(tensor.kind):
            raise Refused(f"{name!r} is restored with other scales than it was rounded with")
        return tensor, order

    def read(self, name: str, order: Order | None = None) -> Tensor:
        """A tensor with its axes in an order; as ONNX has them, if None."""
        order = plain(len(self.dims(name))) if order is None else order
        if self.plan.value(name) is not None:
            return self._constant_in(name, order)
        return self.reorder(*self.held(name), order)

    def aligned(self, name: str, order: Order) -> Tensor:
        """An operand that broadcasting stretches to tensors of a higher rank stored in an order."""
        dims, missing = self.dims(name), len(order) - len(self.dims(name))
        if not missing and self.plan.value(name) is None:
            return self.read(name, order)
        if self.plan.value(name) is None:
            full = (1,) * missing + dims
            return self.reorder(self.reshape(self.read(name), full), plain(len(full)), order)
        inner = tuple(axis - missing for axis in order if axis >= missing)
        return self.reshape(self.read(name, inner), trimmed(shaped((1,) * missing + dims, order)))

    def reorder(self, tensor: Tensor, at: Order, order: Order) -> Tensor:
        """The tensor with its axes in another order; a Reshape will do where only axes of length 1 move."""
        if at == order:
            return tensor
        if len(at) != len(order):
            raise Refused(f"an operand has {len(at)} axes, {len(order)} belong there")
        perm = tuple(at.index(axis) for axis in order)
        shape, key = shaped(tensor.shape, perm), (tensor, perm)
        if key not in self._moved:
            long = [axis for axis in perm if tensor.shape[axis] != 1]
            if long == sorted(long):
                self._moved[key] = self.reshape(tensor, shape)
            else:
                operands = [tensor, self.constant(np.array(perm, np.int32))]
                self._moved[key] = self.emit("TRANSPOSE", operands, shape, tensor.kind)
        return self._moved[key]

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        shape = tuple(shape)
        if shape == tensor.shape:
            return tensor
        if prod(shape) != prod(tensor.shape):
            raise Refused(f"{prod(tensor.shape)} numbers do not fill the shape {'x'.join(map(str, shape))}")
        if tensor.data is not None:
            scales = tensor.kind.scales
            if scales is not None and scales.axis:
                scales = replace(scales, axis=len(shape) - (tensor.rank - scales.axis))
            return Tensor(shape, Kind(tensor.kind.dtype, scales), tensor.name, tensor.data.reshape(shape))
        operands = [tensor, self.constant(np.array(shape, np.int32))]
        return self.emit("RESHAPE", operands, shape, tensor.kind, newShape=list(shape))

    def constant(self, value: np.ndarray, kind: Kind | None = None, name: str = "") -> Tensor:
        """A constant; rounded to the integers of ``kind`` if that is scaled and the value is not."""
        if kind is not None and kind.scales is not None and value.dtype.kind == "f":
            value = rounded(value, kind)
        return Tensor(value.shape, kind or Kind(value.dtype), name, value)

    def number(self, value: float) -> Tensor:
        """A scalar of single precision."""
        return self.constant(np.array(value, np.float32))

    def emit(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        kind: Kind | None = None,
        act: str | None = None,
        **options: Any,
    ) -> Tensor:
        """An operator that makes one tensor: of the kind that the step wants, if None."""
        if act is not None:
            options["fusedActivationFunction"] = ACTS[act]
        if code in _SCALED:
            options["potScaleInt16"] = False
        made = Tensor(tuple(shape), kind or self.wanted)
        self.program.ops.append(Op(code, list(inputs), [made], options))
        return made

    def give(self, tensor: Tensor, order: Order | None = None, at: int = 0) -> None:
        """What the step makes, its output number ``at``."""
        name = self.step.node.output[at] if at else self.step.output
        rounded = self.step.rounded.get(name)
        if rounded is None:
            self.hold(name, tensor, order)
            return
        if not tensor.kind.same(rounded.kind):
            tensor = self.emit("QUANTIZE", [tensor], tensor.shape, rounded.kind)
        for integers in rounded.names:
            self.hold(integers, tensor, order)

    def common(self, names: Sequence[str]) -> Order:
        """The order in which operands of equal rank are best read: that of the largest."""
        rank = max(len(self.dims(name)) for name in names)
        orders = [
            (int(np.prod(self.dims(name))), number, self.held(name)[1])
            for number, name in enumerate(reversed(names))
            if len(self.dims(name)) == rank and self.plan.value(name) is None
        ]
        return max(orders)[2] if orders else plain(rank)

    def _constant_in(self, name: str, order: Order) -> Tensor:
        key = (name, order, self.step.integer)
        if key not in self._constants:
            self._constants[key] = self._new_constant(name, order)
        return self._constants[key]

    def _new_constant(self, name: str, order: Order) -> Tensor:
        stored, kind = self.plan.stored(name)
        one = self.plan.coded.get(name)
        if kind is None and one is not None and (blocks := one.turned(order).in_blocks()) is not None:
            return self._from_blocks(name, blocks, shaped(one.integers.shape, order))
        if kind is None or kind.scales is None:
            return self.constant(stored.transpose(order), name=name)
        turned = replace(kind.scales, axis=order.index(kind.scales.axis) if order else 0)
        held = self.constant(stored.transpose(order), Kind(stored.dtype, turned), f"{name}/integers")
        return held if self.step.integer else self.emit("DEQUANTIZE", [held], held.shape, FLOAT)

    def _from_blocks(self, name: str, blocks: Coded, shape: Sequence[int]) -> Tensor:
        assert blocks.kind is not None
        held = self.constant(blocks.integers, blocks.kind, f"{name}/integers")
        return self.reshape(self.emit("DEQUANTIZE", [held], held.shape, FLOAT), shape)


def trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """Without ones in front, which broadcasting does not need."""
    first = next((k for k, length in enumerate(shape) if length != 1), len(shape))
    return tuple(shape[first:])


def along(scales: Scales, values: np.ndarray, rank: int) -> np.ndarray:
    """Scales or zero points so that they stretch to a tensor."""
    shape = [1] * rank
    if values.size > 1:
        shape[scales.axis] = values.size
    return values.reshape(shape)


def real(integers: np.ndarray, kind: Kind) -> np.ndarray:
    """What integers of a kind stand for."""
    assert kind.scales is not None
    scale, zero = (along(kind.scales, v, integers.ndim) for v in (kind.scales.scale, kind.scales.zero))
    return np.asarray((integers.astype(np.int64) - zero) * scale.astype(np.float64), np.float32)


def rounded(values: np.ndarray, kind: Kind) -> np.ndarray:
    """The nearest integers of a kind."""
    assert kind.scales is not None
    scale, zero = (along(kind.scales, v, values.ndim) for v in (kind.scales.scale, kind.scales.zero))
    limits = np.iinfo(kind.dtype)
    made = np.rint(values.astype(np.float64) / scale.astype(np.float64)) + zero
    return np.clip(made, limits.min, limits.max).astype(kind.dtype)
