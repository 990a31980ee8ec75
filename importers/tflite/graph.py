"""What readings of operators write with: tensors in the order of axes that they want, nodes, results.

``order[k]`` is the TFLite axis that axis k of an ONNX tensor is. A Transpose costs nothing here: the axes get other names,
and only who reads a tensor in another order has it moved, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .parse import File, Op, Scales, Tensor

Order = tuple[int, ...]
ACTS = ("", "Relu", "", "", "Tanh", "Sign")
"""Rectifiers as the schema numbers them; the second and third have limits."""
_LIMITS = {2: (-1.0, 1.0), 3: (0.0, 6.0)}


def plain(rank: int) -> Order:
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else plain(rank)


class Unread(Exception):
    """An operator that is not read, and why."""


class Graph:
    """ONNX nodes and weights, as they are made of a file."""

    def __init__(self, file: File, *, free: bool) -> None:
        self.file, self.free = file, free
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.names: set[str] = {*file.inputs, *file.outputs}
        self._floats: dict[int, tuple[str, Order]] = {}
        self._integers: dict[int, tuple[str, Order]] = {}
        self._moved: dict[tuple[str, Order], str] = {}
        self._read: dict[tuple[int, Order], str] = {}

    def tensor(self, number: int) -> Tensor:
        return self.file.tensors[number]

    def shape(self, number: int) -> tuple[int, ...]:
        return self.tensor(number).shape

    def fresh(self, wanted: str) -> str:
        name, number = wanted, 0
        while not name or name in self.names:
            number += 1
            name = f"{wanted or 'tensor'}_{number}"
        self.names.add(name)
        return name

    def emit(self, op: str, inputs: Sequence[str], name: str = "", outputs: int = 1, **attributes: Any) -> str:
        """A node; gives the name of its first output. Further ones are called ``NAME:1`` and so on."""
        made = self.fresh(name or op.lower())
        others = [f"{made}:{k}" for k in range(1, outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), [made, *others], made, **attributes))
        return made

    def constant(self, value: np.ndarray, name: str = "constant") -> str:
        made = self.fresh(name)
        self.weights[made] = np.array(value, order="C")
        return made

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def known(self, number: int) -> np.ndarray:
        """Raises Unread where an operand is computed."""
        data = self.tensor(number).data
        if data is None:
            raise Unread(f"its operand {self.tensor(number).name!r} is computed")
        return data

    def held(self, number: int) -> tuple[str, Order]:
        """A tensor, real numbers where its integers stand for such, and the order that it is in."""
        if self.tensor(number).data is not None:
            return self.read(number), plain(len(self.shape(number)))
        if number in self._floats:
            return self._floats[number]
        order = self._integers[number][1]
        return self.read(number, order), order

    def read(self, number: int, order: Order | None = None) -> str:
        order = plain(len(self.shape(number))) if order is None else order
        if self.tensor(number).data is not None:
            return self._constant_in(number, order)
        if number in self._floats:
            return self.ordered(*self._floats[number], order)
        key = number, order  # integers are moved, not the real numbers that they stand for
        if key not in self._read:
            moved = self.ordered(*self._integers[number], order)
            self._read[key] = self._restored(moved, self.tensor(number), order)
        return self._read[key]

    def ordered(self, name: str, at: Order, order: Order) -> str:
        if at == order:
            return name
        perm = tuple(at.index(axis) for axis in order)
        if (name, perm) not in self._moved:
            self._moved[name, perm] = self.emit("Transpose", [name], f"{name}/moved", perm=perm)
        return self._moved[name, perm]

    def give(self, number: int, name: str, order: Order | None = None) -> None:
        """What an operator makes; integers are rounded."""
        order = plain(len(self.shape(number))) if order is None else order
        tensor = self.tensor(number)
        if tensor.scales is None or tensor.dtype.kind == "f":
            self._floats[number] = name, order
            return
        scale, zero, axis = self._parameters(tensor, order)
        made = self.emit("QuantizeLinear", [name, scale, zero], tensor.name, **axis)
        self._integers[number] = made, order

    def take(self, number: int, name: str, order: Order) -> None:
        """An input of the graph."""
        scaled = self.tensor(number).scales is not None and self.tensor(number).dtype.kind != "f"
        (self._integers if scaled else self._floats)[number] = name, order

    def end(self, number: int, order: Order) -> str:
        """An output of the graph, of the type that the file says."""
        held = self._integers.get(number) or self.held(number)
        return self.ordered(*held, order)

    def act(self, op: Op, name: str) -> str:
        """What the operator's own rectifier makes of what it computes."""
        number = op.options.get("fusedActivationFunction", 0)
        if number in _LIMITS:
            return self.clip(name, *_LIMITS[number])
        return self.emit(ACTS[number], [name]) if number < len(ACTS) and ACTS[number] else name

    def clip(self, name: str, low: float, high: float) -> str:
        return self.emit("Clip", [name, self.number(low), self.number(high)])

    def reshape(self, name: str, shape: Sequence[int], before: Sequence[int]) -> str:
        """Free batches stay free where they are the first axis on both sides."""
        lengths = list(shape)
        if self.free and lengths[:1] == [1] == list(before[:1]):
            lengths[0] = 0
        return self.emit("Reshape", [name, self.ints(lengths)])

    def _constant_in(self, number: int, order: Order) -> str:
        key = number, order
        if key not in self._read:
            tensor = self.tensor(number)
            stored = self.constant(self.known(number).transpose(order), tensor.name)
            scaled = tensor.scales is not None and tensor.dtype.kind != "f"
            self._read[key] = self._restored(stored, tensor, order) if scaled else stored
        return self._read[key]

    def _restored(self, name: str, tensor: Tensor, order: Order) -> str:
        scale, zero, axis = self._parameters(tensor, order)
        return self.emit("DequantizeLinear", [name, scale, zero], f"{name}/real", **axis)

    def _parameters(self, tensor: Tensor, order: Order) -> tuple[str, str, dict[str, int]]:
        scales = tensor.scales
        assert isinstance(scales, Scales)
        zero = scales.zero.astype(tensor.dtype)
        axis = {"axis": order.index(scales.axis)} if scales.scale.ndim else {}
        return self.constant(scales.scale, f"{tensor.name}/scale"), self.constant(zero, f"{tensor.name}/zero"), axis
