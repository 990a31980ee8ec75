"""Moves that sum over channels: the layers."""

from __future__ import annotations

import numpy as np

from .growing import Growing, Shape, move


@move(weight=8)
def linear(b: Growing, x: str) -> str | None:
    """MatMul with a weight on the right; a vector now and then."""
    s = b.shapes[x]
    if not s or (b.dynamic and len(s) < 2):
        return None
    width = b.width()
    if b.chance(6):
        return b.op("MatMul", x, b.weight(s[-1], fan_in=s[-1]), shape=s[:-1]) if len(s) > 1 else None
    if b.chance(10):
        table = b.weight(width, s[-1], fan_in=s[-1])
        turned = b.op("Transpose", table, shape=(s[-1], width), perm=[1, 0])
        return b.op("MatMul", x, turned, shape=(*s[:-1], width))
    y = b.op("MatMul", x, b.weight(s[-1], width, fan_in=s[-1]), shape=(*s[:-1], width))
    if b.chance(60):
        operands = [y, b.vector(width)]
        y = b.op("Add", *(operands if b.chance(50) else operands[::-1]), shape=(*s[:-1], width))
    return y


@move(weight=3)
def linear_left(b: Growing, x: str) -> str | None:
    """MatMul with a weight on the left sums over the last axis but one."""
    s = b.shapes[x]
    if len(s) < 2 or len(s) - 2 not in b.axes(x):
        return None
    width = b.width()
    return b.op("MatMul", b.weight(width, s[-2], fan_in=s[-2]), x, shape=(*s[:-2], width, s[-1]))


@move(weight=4)
def gemm(b: Growing, x: str) -> str | None:
    """All forms of Gemm."""
    s = b.shapes[x]
    if len(s) != 2:
        return None
    across = 0 if not b.dynamic and b.chance(25) else 1
    rows, summed, width = s[1 - across], s[across], b.width()
    turned = b.chance(50)
    weight = b.weight(*((width, summed) if turned else (summed, width)), fan_in=summed)
    forms: list[Shape | None] = [None, (width,), (1, width), (), (1,), (1, 1)]
    if not b.dynamic:
        forms += [(rows, width), (rows, 1)]
    form = b.pick(forms)
    extra = [] if form is None else [b.vector(*form)]
    flip = not b.dynamic and b.chance(15)
    if flip:
        first = weight
        return b.op(
            "Gemm",
            first,
            x,
            *(extra if form in ((), (1,), (1, 1)) else []),
            shape=(width, rows),
            transA=int(not turned),
            transB=int(across == 1),
            alpha=0.5 + 0.5 * b.choice.integer(0, 2),
        )
    return b.op("Gemm", x, weight, *extra, shape=(rows, width), transA=int(across == 0), transB=int(turned), beta=0.5)


@move(weight=8)
def conv(b: Growing, x: str) -> str | None:
    """Any groups, any number of spatial axes."""
    s = b.shapes[x]
    if not 3 <= len(s) <= 5 or np.prod(s) > 1500:
        return None
    groups = b.pick([g for g in range(1, s[1] + 1) if s[1] % g == 0]) if b.chance(45) else 1
    width = groups * b.pick((1, 2, 3)) if groups > 1 else b.width()
    if width > 24:
        return None
    inner = s[1] // groups
    kernel = [3 if n > 2 and b.chance(40) else 1 for n in s[2:]]
    bias = [b.vector(width)] if b.chance(60) else []
    return b.op(
        "Conv",
        x,
        b.weight(width, inner, *kernel, fan_in=inner * int(np.prod(kernel))),
        *bias,
        shape=(s[0], width, *s[2:]),
        group=groups,
        pads=[k // 2 for k in kernel] * 2,
    )


@move(weight=3)
def conv_transpose(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if not 3 <= len(s) <= 4 or np.prod(s) > 400:
        return None
    groups = b.pick([g for g in range(1, s[1] + 1) if s[1] % g == 0]) if b.chance(45) else 1
    outer = b.pick((1, 2, 3)) if groups > 1 else b.width()
    stride = b.pick((1, 2)) if max(s[2:]) < 6 else 1
    kernel = [stride] * (len(s) - 2)
    bias = [b.vector(groups * outer)] if b.chance(60) else []
    return b.op(
        "ConvTranspose",
        x,
        b.weight(s[1], outer, *kernel, fan_in=s[1] // groups),
        *bias,
        shape=(s[0], groups * outer, *(n * stride for n in s[2:])),
        group=groups,
        strides=kernel,
    )


@move(weight=3)
def einsum(b: Growing, x: str) -> str | None:
    """Sum over any one axis with a weight; the output's axes in any order."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if not 1 <= len(s) <= 4 or at is None:
        return None
    letters = "abcd"[: len(s)]
    width = b.width()
    kept = [k for k in b.axes(x) if k != at]
    along = [b.pick(kept)] if kept and b.chance(25) else []
    term = letters[at] + "z" + "".join(letters[k] for k in along)
    weight = b.weight(s[at], width, *(s[k] for k in along), fan_in=s[at])
    out = [c for c in letters if c != letters[at]] + ["z"]
    sizes = dict(zip(letters, s, strict=True)) | {"z": width}
    fixed = 1 if b.dynamic else 0
    out = out[:fixed] + [out[fixed:][i] for i in b.order(len(out) - fixed)]
    left, right = (x, letters), (weight, term)
    if b.chance(40):
        left, right = right, left
    equation = f"{left[1]},{right[1]}->{''.join(out)}"
    return b.op("Einsum", left[0], right[0], shape=[sizes[c] for c in out], equation=equation)


@move(weight=4)
def product_with_itself(b: Growing, x: str) -> str | None:
    """Activation times activation: a tensor with its own or another's transpose."""
    s = b.shapes[x]
    if len(s) < 2 or (b.dynamic and len(s) < 3):
        return None
    others = b.peers(x, lambda t: len(t) == len(s) and t[:-2] == s[:-2] and t[-1] == s[-1])
    y = b.pick(others) if others and b.chance(60) else x
    t = b.shapes[y]
    perm = [*range(len(t) - 2), len(t) - 1, len(t) - 2]
    turned = b.op("Transpose", y, shape=[t[k] for k in perm], perm=perm)
    scores = b.op("MatMul", x, turned, shape=(*s[:-1], t[-2]))
    small = b.op("Mul", scores, b.const(1 / np.sqrt(s[-1])), shape=(*s[:-1], t[-2]))
    if b.chance(50):
        return small
    weights = b.op("Softmax", small, shape=(*s[:-1], t[-2]), axis=b.spelled(len(s) - 1, len(s)))
    return b.op("MatMul", weights, y, shape=(*s[:-1], t[-1]))


@move(weight=3)
def product(b: Growing, x: str) -> str | None:
    """Activation times activation of fitting shapes, batch axes broadcast."""
    s = b.shapes[x]
    if len(s) < 2:
        return None

    def fits(t: Shape) -> bool:
        if len(t) < 2 or t[-2] != s[-1] or (b.dynamic and (len(t) < 3 or len(s) < 3)):
            return False
        batch = list(zip(reversed(s[:-2]), reversed(t[:-2]), strict=False))
        return all(p == q or 1 in (p, q) for p, q in batch)

    others = b.peers(x, fits)
    if not others:
        return None
    y = b.pick(others)
    t = b.shapes[y]
    if b.dynamic and len(t) != len(s):
        return None
    batch = np.broadcast_shapes(s[:-2], t[:-2])
    return b.op("MatMul", x, y, shape=(*batch, s[-2], t[-1])) if np.prod((*batch, s[-2], t[-1])) < 3000 else None


@move(weight=2)
def recurrent(b: Growing, x: str) -> list[str] | None:
    """LSTM, GRU, RNN over (time, batch, channels); directions, states, peepholes left in and out."""
    s = b.shapes[x]
    if len(s) != 3 or b.dynamic:
        return None
    kind = b.pick(["LSTM", "GRU", "RNN"])
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], b.pick((2, 3, 4, 6))
    direction = b.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    w = b.weight(ways, gates * hidden, s[2], fan_in=s[2])
    r = b.weight(ways, gates * hidden, hidden, fan_in=hidden)
    inputs = [x, w, r, b.vector(ways, 2 * gates * hidden) if b.chance(70) else ""]
    if b.chance(40):
        inputs += ["", b.vector(ways, s[1], hidden)]
        if kind == "LSTM":
            inputs.append(b.vector(ways, s[1], hidden))
            if b.chance(50):
                inputs.append(b.vector(ways, 3 * hidden))
    while inputs and not inputs[-1]:
        inputs.pop()
    more = {"linear_before_reset": 1} if kind == "GRU" and b.chance(50) else {}
    shapes: list[Shape] = [(s[0], ways, s[1], hidden), (ways, s[1], hidden), (ways, s[1], hidden)]
    outputs = b.ops(
        kind, *inputs, shapes=shapes[: 3 if kind == "LSTM" else 2], hidden_size=hidden, direction=direction, **more
    )
    return outputs if b.chance(50) else outputs[:1]
