"""What a program does not need: moves that undo each other, factors and shifts that weights can take up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .builder import ACTS
from .program import Op, Program, Tensor

_WEIGHTED = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": -1}
"""By operator, the axis of its weight that counts its outputs."""


def lean(program: Program) -> None:
    """In place; what it computes stays, up to rounding."""
    while _fold(program) or _join_reshapes(program) or _turn_weights(program):
        program.drop_dead()
    program.drop_dead()


def _fold(program: Program) -> bool:
    """Put a factor or a shift by channel into the weights of what makes its operand."""
    makers, readers, ends = program.makers(), program.readers(), program.ends()
    for op in program.ops:
        if op.code not in ("MUL", "ADD") or len(op.inputs) != 2:
            continue
        for x, value in (op.inputs, op.inputs[::-1]):
            maker = makers.get(x) if x is not None else None
            if x is None or value is None or maker is None or len(readers[x]) > 1 or x in ends:
                continue
            if _takes(maker, value) and _take(maker, op, value):
                maker.outputs, program.ops = op.outputs, [o for o in program.ops if o is not op]
                return True
    return False


def _takes(maker: Op, value: Tensor) -> bool:
    """Whether an operator of constant floats can take up numbers, one for all or one for each of its outputs."""
    weight, bias = maker.inputs[1:3] if maker.code in _WEIGHTED and len(maker.inputs) == 3 else (None, None)
    if weight is None or bias is None or weight.data is None or bias.data is None or value.data is None:
        return False
    floats = all(t.kind.dtype == np.float32 for t in (weight, bias, value))
    width = maker.outputs[0].shape[-1]
    by_channel = value.data.size == 1 or (value.shape[-1:] == (width,) and value.data.size == width)
    return floats and by_channel and not maker.options.get("fusedActivationFunction")


def _take(maker: Op, op: Op, value: Tensor) -> bool:
    weight, bias = maker.inputs[1:3]
    if op.outputs[0].shape != maker.outputs[0].shape or value.data is None:
        return False
    if weight is None or weight.data is None or bias is None or bias.data is None:
        return False
    numbers = np.broadcast_to(value.data.reshape(-1).astype(np.float64), bias.shape)
    if op.code == "MUL":
        axis = _WEIGHTED[maker.code] % weight.rank
        factor = numbers.reshape([-1 if k == axis else 1 for k in range(weight.rank)])
        maker.inputs[1] = _constant(weight, weight.data * factor)
        maker.inputs[2] = _constant(bias, bias.data * numbers)
    else:
        maker.inputs[2] = _constant(bias, bias.data + numbers)
    act = op.options.get("fusedActivationFunction", ACTS["NONE"])
    maker.options = {**maker.options, "fusedActivationFunction": act}
    return True


def _constant(like: Tensor, value: np.ndarray) -> Tensor:
    return replace(like, data=value.astype(np.float32))


def _join_reshapes(program: Program) -> bool:
    """A Reshape of a Reshape reads what the first did; one to the same shape goes."""
    makers, ends = program.makers(), program.ends()
    for op in program.ops:
        if op.code != "RESHAPE":
            continue
        source = op.inputs[0]
        assert source is not None
        before = makers.get(source)
        if before is not None and before.code == "RESHAPE":
            op.inputs = [before.inputs[0], *op.inputs[1:]]
            return True
        if source.shape == op.outputs[0].shape and op.outputs[0] not in ends:
            _replace(program, op.outputs[0], source)
            program.ops = [o for o in program.ops if o is not op]
            return True
    return False


def _replace(program: Program, old: Tensor, new: Tensor) -> None:
    for op in program.ops:
        op.inputs = [new if tensor is old else tensor for tensor in op.inputs]


def _turn_weights(program: Program) -> bool:
    """A product of rows that were transposed and flattened: its weight is put in the order that they lie in."""
    makers = program.makers()
    for op in program.ops:
        flat = makers.get(op.inputs[0]) if op.code == "FULLY_CONNECTED" and op.inputs[0] is not None else None
        turned = makers.get(flat.inputs[0]) if flat is not None and flat.inputs[0] is not None else None
        if flat is None or turned is None or (flat.code, turned.code) != ("RESHAPE", "TRANSPOSE"):
            continue
        source, perm = turned.inputs[0], turned.inputs[1]
        weight, rows = op.inputs[1], flat.outputs[0]
        if source is None or perm is None or perm.data is None or weight is None or weight.data is None:
            continue
        lengths = [source.shape[axis] for axis in perm.data]
        if perm.data[0] != 0 or rows.shape != (source.shape[0], int(np.prod(lengths[1:]))):
            continue
        if weight.kind.scales is not None and weight.kind.scales.axis:
            continue
        back = [0, *(int(np.flatnonzero(perm.data == axis)[0]) for axis in range(1, source.rank))]
        data = weight.data.reshape(weight.shape[0], *lengths[1:]).transpose(back).reshape(weight.shape)
        made = Tensor(rows.shape, rows.kind)
        straight = Op("RESHAPE", [source, *flat.inputs[1:]], [made], flat.options)
        program.ops.insert(program.ops.index(op), straight)
        op.inputs = [made, replace(weight, data=data), *op.inputs[2:]]
        return True
    return False
