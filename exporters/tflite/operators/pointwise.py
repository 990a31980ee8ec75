"""What computes number by number: in whatever order tensors are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx

from ....graph.nodes import attribute, saturation
from ..builder import Builder
from ..plan import FUSED, Plan, Step
from ..program import FLOAT, Kind, Scales, Tensor
from ..table import Refused, converts

ALIKE: Mapping[str, str] = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "HardSwish": "HARD_SWISH",
    "Log": "LOG",
    "Neg": "NEG",
    "Not": "LOGICAL_NOT",
    "Relu": "RELU",
    "Round": "ROUND",
    "Sign": "SIGN",
    "Sin": "SIN",
    "Sqrt": "SQRT",
}
"""Operators of one operand that are the same in both."""
PAIRS: Mapping[str, str] = {
    "Add": "ADD",
    "Sub": "SUB",
    "Mul": "MUL",
    "Div": "DIV",
    "Max": "MAXIMUM",
    "Min": "MINIMUM",
    "Pow": "POW",
    "Sum": "ADD",
    "Equal": "EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "And": "LOGICAL_AND",
    "Or": "LOGICAL_OR",
}
"""Operators that stretch their operands, the same in both."""
_FUSING = ("ADD", "SUB", "MUL", "DIV")
_IN_8_BITS = (*_FUSING[:3], "RELU", "HARD_SWISH")


def unit_kind(step: Step, x: Tensor, zero: int) -> Kind | None:
    """What integer kernels of functions up to 1 give, and nothing else: from 0, which ``zero`` stands for, or from -1."""
    if not step.integer:
        return None
    if x.kind.dtype == np.int16:
        return Kind(x.kind.dtype, Scales(np.array(1 / 32768, np.float32), np.array(0)))
    return Kind(x.kind.dtype, Scales(np.array(1 / (256 if zero else 128), np.float32), np.array(zero)))


def unary(code: str, x: Tensor, make: Builder) -> Tensor:
    return make.emit(code, [x], x.shape, x.kind)


def pair(code: str, x: Tensor, y: Tensor | float, make: Builder, act: str = "NONE") -> Tensor:
    """Arithmetic of floats in between; the second operand stretches."""
    y = make.number(y) if isinstance(y, (int, float)) else y
    shape = np.broadcast_shapes(x.shape, y.shape)
    return make.emit(code, [x, y], shape, x.kind, act=act if code in _FUSING else None)


def _alike(code: str, step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    make.give(make.emit(code, [x], x.shape), order)


def _pairs(code: str, step: Step, make: Builder) -> None:
    """Several operands in turn, two at a time."""
    names, out = list(step.node.input), make.dims(step.output)
    order = make.common([*names])
    if len(order) < len(out):
        order = tuple(range(len(out)))
    made = make.aligned(names[0], order)
    if len(names) == 1:
        make.give(made, order)
        return
    for number, name in enumerate(names[1:], start=2):
        other, last = make.aligned(name, order), number == len(names)
        shape = np.broadcast_shapes(made.shape, other.shape)
        act = (step.act if last else "NONE") if code in _FUSING else None
        made = make.emit(code, [made, other], shape, make.wanted, act)
    make.give(make.reshape(made, tuple(out[axis] for axis in order)), order)


def _two(node: onnx.NodeProto, plan: Plan) -> bool:
    """Sums of more are not rounded in between."""
    return len(node.input) == 2


for _name, _code in ALIKE.items():
    converts(_name, integer=_code in _IN_8_BITS, narrow=_code == "HARD_SWISH")(partial(_alike, _code))
for _name, _code in PAIRS.items():
    converts(_name, integer=_two if _code in _IN_8_BITS else False, fuses=_code in _FUSING)(partial(_pairs, _code))


def _fixed(code: str, zero: int, step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    make.give(make.emit(code, [x], x.shape, unit_kind(step, x, zero)), order)


converts("Sigmoid", integer=True)(partial(_fixed, "LOGISTIC", -128))
converts("Tanh", integer=True)(partial(_fixed, "TANH", 0))


@converts("Clip", integer=True)
def clip(step: Step, make: Builder) -> None:
    """A rectifier where there is one of these limits, else the larger and the smaller of two."""
    limits = saturation(step.node, make.plan.constants)
    x, order = make.held(step.operand(0))
    if (limits is not None and limits in FUSED and x.kind.dtype.kind == "f") or step.integer:
        if limits not in FUSED or x.kind.dtype == np.int16:
            make.give(_rectified(x, limits, make), order)
            return
        make.give(make.emit(FUSED[limits], [x], x.shape), order)
        return
    for place, code in ((1, "MAXIMUM"), (2, "MINIMUM")):
        if name := step.operand(place):
            x = make.emit(code, [x, make.read(name)], x.shape, x.kind)
    make.give(x, order)


def _rectified(x: Tensor, limits: tuple[float, float] | None, make: Builder) -> Tensor:
    """Integers within limits."""
    if limits is None:
        raise Refused("its limits are computed", "make them constants")
    for limit, code in zip(limits, ("MAXIMUM", "MINIMUM"), strict=True):
        if np.isfinite(limit):
            x = make.emit(code, [x, make.constant(np.array(limit, np.float32), x.kind)], x.shape, x.kind)
    return x


@converts("LeakyRelu", integer=True)
def leaky_relu(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    make.give(make.emit("LEAKY_RELU", [x], x.shape, alpha=attribute(step.node, "alpha", 0.01)), order)


@converts("PRelu")
def prelu(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    make.give(make.emit("PRELU", [x, make.aligned(step.operand(1), order)], x.shape), order)


Function = Callable[[Step, Tensor, Builder], Tensor]


def _function(name: str) -> Callable[[Function], Function]:
    """Register what is made of several operators, of one operand in floats."""

    def add(function: Function) -> Function:
        def convert(step: Step, make: Builder) -> None:
            x, order = make.held(step.operand(0))
            make.give(function(step, x, make), order)

        converts(name)(convert)
        return function

    return add


@_function("Elu")
def elu(step: Step, x: Tensor, make: Builder) -> Tensor:
    return _exponential(x, attribute(step.node, "alpha", 1.0), 1.0, make)


@_function("Selu")
def selu(step: Step, x: Tensor, make: Builder) -> Tensor:
    alpha = attribute(step.node, "alpha", 1.6732631921768188)
    return _exponential(x, alpha, attribute(step.node, "gamma", 1.0507009873554805), make)


def _exponential(x: Tensor, alpha: float, gamma: float, make: Builder) -> Tensor:
    """gamma · (relu(x) + alpha · elu(min(x, 0)))"""
    if alpha == 1:
        made = unary("ELU", x, make)
    else:
        below = unary("ELU", pair("MINIMUM", x, 0.0, make), make)
        made = pair("ADD", unary("RELU", x, make), pair("MUL", below, alpha, make), make)
    return made if gamma == 1 else pair("MUL", made, gamma, make)


@_function("HardSigmoid")
def hard_sigmoid(step: Step, x: Tensor, make: Builder) -> Tensor:
    scaled = pair("MUL", x, attribute(step.node, "alpha", 0.2), make)
    return _within(pair("ADD", scaled, attribute(step.node, "beta", 0.5), make), 0.0, 1.0, make)


def _within(x: Tensor, low: float, high: float, make: Builder) -> Tensor:
    return pair("MINIMUM", pair("MAXIMUM", x, low, make), high, make)


@_function("Gelu")
def gelu(step: Step, x: Tensor, make: Builder) -> Tensor:
    approximate = attribute(step.node, "approximate", "none") == "tanh"
    return make.emit("GELU", [x], x.shape, approximate=approximate)


@_function("Swish")
def swish(step: Step, x: Tensor, make: Builder) -> Tensor:
    alpha = attribute(step.node, "alpha", 1.0)
    inner = x if alpha == 1 else pair("MUL", x, alpha, make)
    return pair("MUL", x, unary("LOGISTIC", inner, make), make)


@_function("Softplus")
def softplus(step: Step, x: Tensor, make: Builder) -> Tensor:
    """relu(x) + log(1 + exp(-|x|)), which no x overflows."""
    small = unary("EXP", unary("NEG", unary("ABS", x, make), make), make)
    return pair("ADD", unary("RELU", x, make), unary("LOG", pair("ADD", small, 1.0, make), make), make)


@_function("Mish")
def mish(step: Step, x: Tensor, make: Builder) -> Tensor:
    return pair("MUL", x, unary("TANH", softplus(step, x, make), make), make)


@_function("Softsign")
def softsign(step: Step, x: Tensor, make: Builder) -> Tensor:
    return pair("DIV", x, pair("ADD", unary("ABS", x, make), 1.0, make), make)


@_function("Reciprocal")
def reciprocal(step: Step, x: Tensor, make: Builder) -> Tensor:
    return make.emit("DIV", [make.number(1.0), x], x.shape, act="NONE")


_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
"""Hastings' coefficients: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.26."""
_ERF_SLOPE = 0.3275911


@_function("Erf")
def erf(step: Step, x: Tensor, make: Builder) -> Tensor:
    """sign(x) · (1 - t · p(t) · exp(-x²)) with t = 1 / (1 + 0.3275911 |x|), right to 1.5e-7.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.26.
    """
    size = unary("ABS", x, make)
    below = pair("ADD", pair("MUL", size, _ERF_SLOPE, make), 1.0, make)
    t = make.emit("DIV", [make.number(1.0), below], x.shape, act="NONE")
    series = make.emit("MUL", [t, make.number(_ERF[-1])], x.shape, act="NONE")
    for coefficient in reversed(_ERF[:-1]):
        series = pair("MUL", pair("ADD", series, coefficient, make), t, make)
    bell = unary("EXP", unary("NEG", pair("MUL", x, x, make), make), make)
    rest = make.emit("SUB", [make.number(1.0), pair("MUL", series, bell, make)], x.shape, act="NONE")
    return pair("MUL", unary("SIGN", x, make), rest, make)


@_function("ThresholdedRelu")
def thresholded_relu(step: Step, x: Tensor, make: Builder) -> Tensor:
    limit = make.number(attribute(step.node, "alpha", 1.0))
    above = make.emit("GREATER", [x, limit], x.shape, Kind(np.dtype(np.bool_)))
    return make.emit("SELECT_V2", [above, x, make.number(0.0)], x.shape, FLOAT)


@converts("Mean")
def mean(step: Step, make: Builder) -> None:
    names, out = list(step.node.input), make.dims(step.output)
    order = tuple(range(len(out)))
    made = make.aligned(names[0], order)
    for name in names[1:]:
        made = pair("ADD", made, make.aligned(name, order), make)
    make.give(pair("MUL", made, 1 / len(names), make), order)


@converts("Where")
def where(step: Step, make: Builder) -> None:
    names, out = list(step.node.input), make.dims(step.output)
    order = make.common(names)
    order = order if len(order) == len(out) else tuple(range(len(out)))
    operands = [make.aligned(name, order) for name in names]
    make.give(make.emit("SELECT_V2", operands, tuple(out[axis] for axis in order)), order)


@converts("Mod")
def mod(step: Step, make: Builder) -> None:
    if attribute(step.node, "fmod", 0):
        raise Refused("its remainder has the sign of the dividend", "use Mod with fmod=0, of integers")
    _pairs("FLOOR_MOD", step, make)


@converts("Cast")
def cast(step: Step, make: Builder) -> None:
    x, order = make.held(step.operand(0))
    kind = make.wanted
    make.give(x if kind.same(x.kind) else make.emit("CAST", [x], x.shape, kind), order)


@converts("BatchNormalization", fuses=True)
def batch_normalization(step: Step, make: Builder) -> None:
    """A factor and a shift for each channel, which go into the weights of a convolution in front."""
    scale, shift, mean, variance = (make.known(name) for name in step.node.input[1:5])
    if scale is None or shift is None or mean is None or variance is None:
        raise Refused("its statistics are computed", "fold it, or make them constants")
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + attribute(step.node, "epsilon", 1e-5))
    x, order = make.held(step.operand(0))
    shape = tuple(-1 if axis == 1 else 1 for axis in order)
    parts = (factor, shift - mean * factor)
    by, on = (make.constant(value.astype(np.float32).reshape(shape)) for value in parts)
    make.give(pair("ADD", pair("MUL", x, by, make), on, make, step.act), order)


def deviation(variance: Tensor, epsilon: float, make: Builder) -> Tensor:
    """One over the root of a variance."""
    return unary("RSQRT", pair("ADD", variance, epsilon, make), make)
