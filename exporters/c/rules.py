"""What rules see and give: a rule writes one operation as the body of a C function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from ...graph.nodes import attribute
from .expressions import Statement, written
from .tensor import Dims, Tensor, dense_strides


class Unsupported(Exception):
    """What a rule cannot write; says why."""


@dataclass(frozen=True)
class Codes:
    """How integers stand for floats: ``scale * (code - zero)``, one scale or one for each channel."""

    scale: np.ndarray
    zero: int


@dataclass
class Operation:
    """One operation that is left: a node of the model, what is done to each number behind it, operands in integers.

    ``value`` are the statements of what works number by number, empty for all else. ``then`` follows on each number of
    the first output. ``codes`` says of operands and weights that they are integers.
    """

    key: str
    node: onnx.NodeProto
    inputs: list[str]
    outputs: list[str]
    value: tuple[Statement, ...] = ()
    then: tuple[Statement, ...] = ()
    codes: dict[int, Codes] = field(default_factory=dict)
    bias: str = ""


@dataclass
class Step:
    """A function of the source: what it reads and writes, its body, its scratch memory, and what it may overwrite."""

    what: str
    body: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    scratch: list[tuple[str, int]] = field(default_factory=list)
    in_place: bool = False


@dataclass
class Program:
    """What has been written so far. ``buffers`` are the arena's, in bytes; ``tables`` the constants by their C names."""

    constants: dict[str, np.ndarray]
    steps: list[Step] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, int] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def table(self, values: np.ndarray) -> str:
        """The C name of a constant; equal ones are kept once."""
        values = np.ascontiguousarray(values)
        key = values.dtype.str, values.tobytes()
        if key not in self.known:
            self.known[key] = f"k{len(self.tables)}"
            self.tables[self.known[key]] = values
        return self.known[key]

    def tensor(self, name: str) -> Tensor:
        """A tensor that was made before, or a constant."""
        if name not in self.tensors:
            values = self.constants[name]
            strides = dense_strides(values.shape, range(values.ndim))
            self.tensors[name] = Tensor(self.table(values), values.dtype, values.shape, strides)
        return self.tensors[name]


@dataclass
class Call:
    """An operation while its rule runs."""

    program: Program
    operation: Operation
    dims: Sequence[Dims]
    dtypes: Sequence[np.dtype]
    is_output: Sequence[bool]
    opset: int
    made: list[Tensor] = field(default_factory=list)

    def x(self, position: int = 0) -> Tensor:
        return self.program.tensor(self.operation.inputs[position])

    def has(self, position: int) -> bool:
        return len(self.operation.inputs) > position and bool(self.operation.inputs[position])

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.operation.node, name, default)

    def axis(self, x: Tensor, default: int) -> int:
        """The axis along which an operator goes, from the front."""
        if not x.dims:
            raise Unsupported("a single number has no axis to go along")
        return int(self.attr("axis", default)) % len(x.dims)

    def constant(self, position: int, what: str) -> np.ndarray:
        """The value of an operand that has to be known."""
        name = self.operation.inputs[position]
        if name not in self.program.constants:
            raise Unsupported(f"{what} is computed while the model runs")
        return self.program.constants[name]

    def ints(self, position: int, name: str, default: Any = None) -> Any:
        """Integers that older operator sets have as an attribute and newer ones as an operand."""
        if self.has(position):
            return [int(v) for v in self.constant(position, name).reshape(-1)]
        found = self.attr(name, default)
        return [found] if isinstance(found, int) else found

    def output(self, position: int = 0, order: Sequence[int] | None = None) -> Tensor:
        """A new tensor for an output, dense in an order of axes; what callers read is in the model's own."""
        dims, dtype = self.dims[position], self.dtypes[position]
        if order is None or self.is_output[position]:
            order = range(len(dims))
        made = self.buffer(dims, dtype, order)
        self.program.tensors[self.operation.outputs[position]] = made
        return made

    def buffer(self, dims: Dims, dtype: np.dtype, order: Sequence[int]) -> Tensor:
        name = f"b{len(self.program.buffers)}"
        self.program.buffers[name] = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
        return Tensor(name, dtype, dims, dense_strides(dims, order))

    def like(self, other: Tensor, position: int = 0) -> Tensor:
        """An output in the order in which another tensor of as many axes lies."""
        same = len(other.dims) == len(self.dims[position])
        return self.output(position, other.order if same else None)

    def step(
        self,
        body: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        scratch: Sequence[tuple[str, int]] = (),
        in_place: bool = False,
    ) -> None:
        """Add a function; its body calls inputs ``x0``, outputs ``y0`` and scratch memory ``s0`` and so on."""
        node = self.operation.node
        what = f"{node.op_type} {node.name or ''}".strip()
        self.program.steps.append(Step(what, body, list(inputs), list(outputs), list(scratch), in_place))

    def finished(self, value: str, ctype: str = "float") -> tuple[str, str]:
        """What stands before, and what is, a number of the first output, made of ``value``."""
        return written(self.operation.then, [(ctype, value)])

    def alias(self, tensor: Tensor, position: int = 0) -> None:
        """An output that is nothing but another view of numbers that are there."""
        self.program.tensors[self.operation.outputs[position]] = tensor

    def dense(self, tensor: Tensor, order: Sequence[int] | None = None) -> Tensor:
        """The same numbers one after the other, copied where they are not."""
        order = range(len(tensor.dims)) if order is None else order
        if tensor.is_dense(order):
            return tensor
        return self.copied(tensor, order)

    def copied(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        from .loops import nest

        made = self.buffer(tensor.dims, tensor.dtype, order)
        self.step(nest([made, replace(tensor, offset=0)], lambda i: f"y0[{i[0]}] = x0[{i[1]}];"), [tensor], [made])
        return made


Rule = Callable[[Call], None]
RULES: dict[str, Rule] = {}
"""By the keys of operators, what writes each."""


FINISHES: set[str] = set()
"""Operators whose rules do to each number, before they store it, what ``then`` says."""


def rule(*keys: str, finishes: bool = False) -> Callable[[Rule], Rule]:
    """Register what writes some operators."""

    def take(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(keys, function))
        if finishes:
            FINISHES.update(keys)
        return function

    return take
