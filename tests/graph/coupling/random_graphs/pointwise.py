"""Moves that work index by index, and normalizations."""

from __future__ import annotations

import numpy as np

from .growing import Growing, Shape, move

_BOUNDED = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Softplus", "Erf", "HardSwish", "Abs", "Neg", "Sin", "Selu")


@move(weight=6)
def activation(b: Growing, x: str) -> str:
    kind = b.pick(_BOUNDED)
    return b.op("Relu" if kind == "HardSwish" and b.opset < 14 else kind, x, shape=b.shapes[x])


@move(weight=2)
def clipped(b: Growing, x: str) -> str:
    bounds = [b.const(-0.7), b.const(0.9)]
    if b.chance(30):
        bounds[0] = ""
    return b.op("Clip", x, *bounds, shape=b.shapes[x])


@move(weight=2)
def gate(b: Growing, x: str) -> str:
    return b.op("Mul", x, b.op("Sigmoid", x, shape=b.shapes[x]), shape=b.shapes[x])


def _broadcast_shape(b: Growing, s: Shape) -> Shape:
    """A shape that broadcasts to ``s``: leading axes left out, others of length 1."""
    first = b.choice.integer(0, len(s))
    floor = 1 if b.dynamic else 0
    return tuple(1 if (first + k < floor or b.chance(30)) else n for k, n in enumerate(s[first:]))


@move(weight=5)
def with_constant(b: Growing, x: str) -> str:
    """Any broadcast constant on any side."""
    s = b.shapes[x]
    kind = b.pick(["Add", "Mul", "Sub", "Div", "Max", "Min"])
    shape = _broadcast_shape(b, s)
    other = b.scale(*shape) if kind in ("Mul", "Div") else b.vector(*shape)
    operands = [x, other]
    if kind != "Div" and b.chance(40):
        operands.reverse()
    return b.op(kind, *operands, shape=s)


@move(weight=9)
def with_another(b: Growing, x: str) -> str | None:
    """Two tensors that broadcast against each other; now and then the same one twice."""
    s = b.shapes[x]

    def fits(t: Shape) -> bool:
        if b.dynamic and len(t) != len(s):
            return False
        pairs = list(zip(reversed(s), reversed(t), strict=False))
        return all(p == q or 1 in (p, q) for p, q in pairs)

    others = b.peers(x, fits)
    equal = [t for t in others if b.shapes[t] == s and t != x]
    y = b.pick(equal) if equal and b.chance(60) else b.pick(others)
    out = np.broadcast_shapes(s, b.shapes[y])
    if np.prod(out) > 3000:
        return None
    kind = b.pick(["Add", "Add", "Mul", "Sub", "Max", "Min", "Mean", "Sum"])
    operands = [x, y]
    if kind in ("Sum", "Mean", "Max") and equal and b.chance(40):
        operands.append(b.pick(equal))
    return b.op(kind, *operands, shape=out)


@move(weight=2)
def safe_quotient(b: Growing, x: str) -> str:
    """Divide by something positive made from the tensor itself."""
    s = b.shapes[x]
    above = b.op("Add", b.op("Abs", x, shape=s), b.const(1.0), shape=s)
    if b.chance(50):
        above = b.op("Sqrt", above, shape=s)
    return b.op("Div", x, above, shape=s)


@move(weight=2)
def choose(b: Growing, x: str) -> str:
    """Where, with a constant or computed condition and a broadcast branch."""
    s = b.shapes[x]
    if b.chance(50):
        shape = _broadcast_shape(b, s)
        condition = b.const(b.graph.random.random(shape) < 0.6, "bool")
    else:
        condition = b.op("Greater", x, b.const(0.1), shape=s)
    branches = [x, b.vector(*_broadcast_shape(b, s))]
    return b.op("Where", condition, *(branches if b.chance(50) else branches[::-1]), shape=s)


@move(weight=2)
def slopes(b: Growing, x: str) -> str | None:
    """PRelu with one slope a channel, as frameworks write it, or one in all."""
    s = b.shapes[x]
    if len(s) < 2:
        return None
    shape: Shape = (s[1], *(1 for _ in s[2:])) if b.chance(70) else (1,)
    return b.op("PRelu", x, b.scale(*shape), shape=s)


@move(weight=5)
def batch_norm(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) < 2:
        return None
    operands = [b.scale(s[1]), b.vector(s[1]), b.vector(s[1]), b.scale(s[1])]
    return b.op("BatchNormalization", x, *operands, shape=s, epsilon=1e-3)


@move(weight=3)
def layer_norm(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if not b.axes(x) or b.opset < 17:
        return None
    at = b.pick(b.axes(x)[-2:])
    shape = s[at:]
    operands = [b.scale(*shape)] + ([b.vector(*shape)] if b.chance(60) else [])
    return b.op("LayerNormalization", x, *operands, shape=s, axis=b.spelled(at, len(s)), epsilon=0.01)


@move(weight=2)
def manual_norm(b: Growing, x: str) -> str | None:
    """A layer normalization spelled out."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None:
        return None
    one = tuple(1 if k == at else n for k, n in enumerate(s))
    mean = _reduce(b, "ReduceMean", x, at, one)
    gap = b.op("Sub", x, mean, shape=s)
    square = b.op("Mul", gap, gap, shape=s)
    spread = b.op("Sqrt", b.op("Add", _reduce(b, "ReduceMean", square, at, one), b.const(0.01), shape=one), shape=one)
    return b.op("Div", gap, spread, shape=s)


def _reduce(b: Growing, kind: str, x: str, at: int, shape: Shape) -> str:
    """Keeps the reduced axis; axes are an attribute or an operand, as the opset has them."""
    return reduce_over(b, kind, x, [at], shape, keep=True)


def reduce_over(b: Growing, kind: str, x: str, over: list[int], shape: Shape, keep: bool) -> str:
    spelled = [b.spelled(k, b.rank(x)) for k in over]
    if kind == "ReduceSum" or b.opset >= 18:
        return b.op(kind, x, b.const(spelled), shape=shape, keepdims=int(keep))
    return b.op(kind, x, shape=shape, keepdims=int(keep), axes=spelled)


@move(weight=2)
def instance_norm(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) < 3 or np.prod(s[2:]) < 2:
        return None
    return b.op("InstanceNormalization", x, b.scale(s[1]), b.vector(s[1]), shape=s, epsilon=0.01)


@move(weight=3)
def group_norm(b: Growing, x: str) -> str | None:
    """The operator, or what exporters make of it: reshape, instance normalization, reshape back."""
    s = b.shapes[x]
    if len(s) < 3 or s[1] < 2:
        return None
    groups = b.pick([g for g in range(1, s[1] + 1) if s[1] % g == 0])
    if b.opset >= 21 and b.chance(50):
        operands = [b.scale(s[1]), b.vector(s[1])]
        return b.op("GroupNormalization", x, *operands, shape=s, num_groups=groups, epsilon=0.01)
    flat = b.op("Reshape", x, b.const([0, groups, -1]), shape=(s[0], groups, int(np.prod(s[1:])) // groups))
    normal = b.op("InstanceNormalization", flat, b.scale(groups), b.vector(groups), shape=b.shapes[flat], epsilon=0.01)
    target = [0, *s[1:]] if b.dynamic else list(s)
    back = b.op("Reshape", normal, b.const(target), shape=s)
    shape = (s[1], *(1 for _ in s[2:]))
    return b.op("Add", b.op("Mul", back, b.scale(*shape), shape=s), b.vector(*shape), shape=s)


@move(weight=1)
def unit_length(b: Growing, x: str) -> str | None:
    """Divide by the L2 norm over an axis, as an operator or spelled out."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None or s[at] < 2:
        return None
    x = b.op("Add", x, b.const(0.3), shape=s)
    if b.chance(40):
        return b.op("LpNormalization", x, shape=s, axis=b.spelled(at, len(s)), p=b.pick((1, 2)))
    norm = _reduce(b, "ReduceL2", x, at, tuple(1 if k == at else n for k, n in enumerate(s)))
    return b.op("Div", x, b.op("Add", norm, b.const(0.1), shape=b.shapes[norm]), shape=s)


@move(weight=2)
def softmax(b: Growing, x: str) -> str | None:
    at = b.some_axis(x, longest_first=10)
    if at is None:
        return None
    return b.op(b.pick(["Softmax", "LogSoftmax"]), x, shape=b.shapes[x], axis=b.spelled(at, b.rank(x)))


@move(weight=1)
def cast(b: Growing, x: str) -> str:
    """To double and back."""
    s = b.shapes[x]
    return b.op("Cast", b.op("Cast", x, shape=s, to=11), shape=s, to=1)
