"""Normalizations, of means, squares and roots."""

from __future__ import annotations

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Step
from ..program import Order, Tensor, plain
from ..table import Refused, axis_of, converts
from .pointwise import deviation, pair, unary
from .reduce import reduced


def _standardized(x: Tensor, order: Order, axes: list[int], epsilon: float, make: Builder) -> Tensor:
    """Mean 0 and deviation 1 over ONNX axes."""
    centred = pair("SUB", x, reduced("MEAN", x, order, axes, make), make)
    variance = reduced("MEAN", unary("SQUARE", centred, make), order, axes, make)
    return pair("MUL", centred, deviation(variance, epsilon, make), make)


def _scaled(x: Tensor, order: Order, step: Step, make: Builder) -> Tensor:
    """Times operand 1, plus operand 2."""
    for code, name in (("MUL", step.operand(1)), ("ADD", step.operand(2))):
        if name:
            x = pair(code, x, make.aligned(name, order), make)
    return x


@converts("LayerNormalization")
def layer_normalization(step: Step, make: Builder) -> None:
    if len([o for o in step.node.output if o]) > 1:
        raise Refused("its mean and deviation are read", "compute them by themselves")
    x, order = make.held(step.operand(0))
    first = axis_of(step.node, x.rank, -1)
    epsilon = attribute(step.node, "epsilon", 1e-5)
    made = _standardized(x, order, list(range(first, x.rank)), epsilon, make)
    make.give(_scaled(made, order, step, make), order)


@converts("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    axes = list(range(axis_of(step.node, x.rank, -1), x.rank))
    mean = reduced("MEAN", unary("SQUARE", x, make), order, axes, make)
    made = pair("MUL", x, deviation(mean, attribute(step.node, "epsilon", 1e-5), make), make)
    make.give(_scaled(made, order, step, make), order)


@converts("InstanceNormalization")
def instance_normalization(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    made = _standardized(x, order, list(range(2, x.rank)), attribute(step.node, "epsilon", 1e-5), make)
    make.give(_by_channel(made, order, step, make), order)


def _by_channel(x: Tensor, order: Order, step: Step, make: Builder) -> Tensor:
    """Times a factor for each channel, plus a shift."""
    shape = tuple(-1 if axis == 1 else 1 for axis in order)
    for code, name in (("MUL", step.operand(1)), ("ADD", step.operand(2))):
        value = make.known(name)
        if value is None:
            raise Refused(f"its operand {name!r} is computed", "make it a constant")
        x = pair(code, x, make.constant(value.reshape(shape)), make)
    return x


@converts("GroupNormalization")
def group_normalization(step: Step, make: Builder) -> None:
    """Channels of a group lie side by side: they are an axis of their own in between."""
    dims, groups = make.dims(step.operand(0)), attribute(step.node, "num_groups")
    x = make.read(step.operand(0))
    apart = make.reshape(x, (dims[0], groups, x.shape[1] // groups, *dims[2:]))
    epsilon = attribute(step.node, "epsilon", 1e-5)
    made = _standardized(apart, plain(apart.rank), list(range(2, apart.rank)), epsilon, make)
    together = make.reshape(made, dims)
    if make.dims(step.operand(1)) != (dims[1],):
        raise Refused("its factors are those of groups, as before operator set 21", "convert it to operator set 21")
    make.give(_by_channel(together, plain(x.rank), step, make), plain(x.rank))
