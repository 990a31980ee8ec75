"""From a net to steps of C: each operation by its rule, every one that has none named at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.registry import import_all
from ...graph.traits import Trait, has_any
from ..base import refuse
from . import ops
from .net import Net
from .ops.move import move
from .ops.pointwise import pointwise
from .planning import Plan, Work, plan
from .recompute import again
from .rules import RULES, Call, Operation, Program, Rule, Step, Unsupported
from .tensor import C_TYPES, Tensor, dense_strides

import_all(ops.__name__)
_COPY = onnx.NodeProto(op_type="Identity")
_FIX = "export to onnx or ort, which ONNX Runtime runs on devices too, or simplify the model: intaglio simplify MODEL -o simple.onnx"


@dataclass(frozen=True)
class Lowered:
    """Steps in the order in which they run, where buffers lie, and what callers hand over."""

    program: Program
    steps: tuple[Step, ...]
    plan: Plan
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    more: float = 0.0
    """The share of work that is done again to save memory."""

    @property
    def constant_bytes(self) -> int:
        """Of all tables that steps read."""
        bodies = "\n".join(step.body for step in self.steps)
        read = {t.buffer for step in self.steps for t in step.inputs} | set(re.findall(r"\bk\d+\b", bodies))
        return sum(table.nbytes for name, table in self.program.tables.items() if name in read)


def rule_of(operation: Operation) -> Rule | None:
    """What writes an operation."""
    if operation.value:
        return pointwise
    if operation.key in RULES:
        return RULES[operation.key]
    return move if has_any(operation.key, Trait.MOVES) else None


def lower(net: Net, budget: int = 0) -> Lowered:
    """Steps for all operations; with a ``budget`` in bytes, some run again where the arena does not fit otherwise.

    Raises:
        CannotExport: of some operators it is not known how to write them.
    """
    program = Program(net.constants)
    for name in net.inputs:
        program.tensors[name] = Tensor(
            f"in:{name}", net.dtypes[name], net.dims[name], dense_strides(net.dims[name], range(len(net.dims[name])))
        )
    refuse("c", list(_refused(net, program)), _FIX)
    outputs = _handed_out(net, program)
    works = [_work(step, program) for step in program.steps]
    found = plan(works, program.buffers)
    inputs = {n: program.tensors[n] for n in net.inputs}
    twice = again(program.steps, works, program.buffers, budget) if 0 < budget < found.arena_bytes else None
    if twice is not None:
        return Lowered(program, twice.steps, twice.plan, inputs, outputs, twice.more)
    return Lowered(program, tuple(program.steps[k] for k in found.order), found, inputs, outputs)


def _refused(net: Net, program: Program) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Writes every operation; gives those that cannot be written, and why."""
    for operation in net.operations:
        why = _written(net, program, operation)
        if why is not None:
            yield operation.node, why
            for name in operation.outputs:
                dims = net.dims.get(name, ())
                program.tensors.setdefault(
                    name, Tensor("none", np.dtype("f4"), dims, dense_strides(dims, range(len(dims))))
                )


def _written(net: Net, program: Program, operation: Operation) -> str | None:
    """Why an operation could not be written."""
    found = rule_of(operation)
    names = [name for name in (*operation.inputs, *(operation.outputs if found else ())) if name]
    unknown = [name for name in names if name not in net.dims or name not in net.dtypes]
    if unknown:
        return f"the shape or type of {unknown[0]!r} is not known"
    ends = [name for name in (*operation.inputs, *operation.outputs) if name in net.dtypes]
    held = [name for name in ends if operation.value or name not in net.constants]
    strange = [net.dtypes[name].name for name in held if net.dtypes[name].name not in C_TYPES]
    if strange:
        return f"C has no {strange[0]}"
    if empty := [name for name in held if name not in net.constants and 0 in net.dims.get(name, ())]:
        return f"{empty[0]!r} holds no number, and C has no arrays of nothing"
    if found is None:
        return "there is no rule that writes it in C"
    call = Call(
        program,
        operation,
        [net.dims[n] if n else () for n in operation.outputs],
        [net.dtypes[n] if n else np.dtype("f4") for n in operation.outputs],
        [n in net.outputs for n in operation.outputs],
        net.opset,
    )
    try:
        found(call)
    except Unsupported as error:
        return str(error)
    return None


def _handed_out(net: Net, program: Program) -> dict[str, Tensor]:
    """Buffers that are outputs are the caller's; what is no buffer of its own is copied."""
    outputs: dict[str, Tensor] = {}
    for name in net.outputs:
        tensor = program.tensor(name)
        owned = {t.buffer for t in outputs.values()}
        if (
            tensor.buffer not in program.buffers
            or tensor.buffer in owned
            or not tensor.is_dense(range(len(tensor.dims)))
            or tensor.offset
        ):
            operation = Operation("Identity", _COPY, [name], [name])
            call = Call(program, operation, [tensor.dims], [tensor.dtype], [True], net.opset)
            tensor = call.copied(tensor, range(len(tensor.dims)))
        outputs[name] = tensor
    for tensor in outputs.values():
        program.buffers.pop(tensor.buffer)
    return outputs


def _work(step: Step, program: Program) -> Work:
    reads = frozenset(t.buffer for t in step.inputs if t.buffer in program.buffers)
    writes = frozenset(t.buffer for t in step.outputs if t.buffer in program.buffers)
    scratch = sum(-(-np.dtype(_numpy(kind)).itemsize * count // 16) * 16 for kind, count in step.scratch)
    return Work(reads, writes, scratch, _in_place(step, program))


def _numpy(ctype: str) -> str:
    return next(name for name, kind in C_TYPES.items() if kind == ctype)


def _in_place(step: Step, program: Program) -> tuple[str, str] | None:
    """An input that the output may lie on: as large, in the same order, and read nowhere else in the step."""
    if not step.in_place:
        return None
    (y,) = step.outputs
    for k, x in enumerate(step.inputs):
        alike = x.dims == y.dims and x.is_dense(y.order) and x.dtype == y.dtype
        alone = all(o.buffer != x.buffer for n, o in enumerate(step.inputs) if n != k)
        if (
            alike
            and alone
            and x.buffer in program.buffers
            and program.buffers[x.buffer] == program.buffers.get(y.buffer)
        ):
            return x.buffer, y.buffer
    return None
