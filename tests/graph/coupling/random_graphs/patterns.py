"""Moves of several nodes that networks really have: attention, gates, blocks with a shortcut."""

from __future__ import annotations

import numpy as np

from .growing import Growing, move
from .moving import reshaped


def _project(b: Growing, x: str, width: int) -> str:
    s = b.shapes[x]
    y = b.op("MatMul", x, b.weight(s[-1], width, fan_in=s[-1]), shape=(*s[:-1], width))
    return b.op("Add", y, b.vector(width), shape=(*s[:-1], width)) if b.chance(50) else y


def _apart(b: Growing, x: str, heads: int, width: int) -> str:
    """(batch, time, heads * width) to (batch, heads, time, width)."""
    s = b.shapes[x]
    wide = reshaped(b, x, (s[0], s[1], heads, width))
    return b.op("Transpose", wide, shape=(s[0], heads, s[1], width), perm=[0, 2, 1, 3])


def _rotated(b: Growing, x: str) -> str:
    """Rotary embedding on the last axis, by halves."""
    s = b.shapes[x]
    half = s[-1] // 2
    ends = [(0, half), (half, 2 * half)]
    parts = [b.op("Slice", x, b.const([lo]), b.const([hi]), b.const([-1]), shape=(*s[:-1], half)) for lo, hi in ends]
    turned = b.op("Concat", b.op("Neg", parts[1], shape=b.shapes[parts[1]]), parts[0], shape=s, axis=-1)
    angles = np.tile(b.graph.random.uniform(0, 3, (s[2], half)), 2)
    tables = [b.const(np.cos(angles)), b.const(np.sin(angles))]
    return b.op("Add", *(b.op("Mul", t, c, shape=s) for t, c in zip((x, turned), tables, strict=True)), shape=s)


@move(weight=5)
def attention(b: Growing, x: str) -> str | None:
    """Multi-head, grouped-query or multi-query attention; packed or separate projections; rotary tables."""
    s = b.shapes[x]
    if len(s) != 3 or s[1] > 8:
        return None
    keys, repeats, width = b.pick((1, 2, 3)), b.pick((1, 1, 2)), b.pick((2, 4))
    heads = keys * repeats
    value = b.pick((2, 3, 4))
    if repeats == 1 and value == width and b.chance(40):
        packed = _project(b, x, 3 * heads * width)
        shape = (s[0], s[1], heads * width)
        parts = b.ops("Split", packed, shapes=[shape] * 3, axis=-1, **({"num_outputs": 3} if b.opset >= 18 else {}))
    else:
        parts = [_project(b, x, heads * width), _project(b, x, keys * width), _project(b, x, keys * value)]
    q, k, v = (_apart(b, p, h, w) for p, h, w in zip(parts, (heads, keys, keys), (width, width, value), strict=True))
    if width % 2 == 0 and b.chance(30):
        q, k = _rotated(b, q), _rotated(b, k)
    if repeats > 1:
        k, v = (_repeated(b, t, keys, repeats) for t in (k, v))
    turned = b.op("Transpose", k, shape=(s[0], heads, width, s[1]), perm=[0, 1, 3, 2])
    scores = b.op("MatMul", q, turned, shape=(s[0], heads, s[1], s[1]))
    if b.chance(40):
        scores = b.op(
            "Add", scores, b.vector(*b.pick(((heads, 1, 1), (1, 1, s[1], s[1]), (s[1], s[1])))), shape=b.shapes[scores]
        )
    weights = b.op("Softmax", scores, shape=b.shapes[scores], axis=-1)
    mixed = b.op("MatMul", weights, v, shape=(s[0], heads, s[1], value))
    together = b.op("Transpose", mixed, shape=(s[0], s[1], heads, value), perm=[0, 2, 1, 3])
    flat = reshaped(b, together, (s[0], s[1], heads * value))
    out = _project(b, flat, s[2])
    return b.op("Add", out, x, shape=s) if b.chance(60) else out


def _repeated(b: Growing, x: str, keys: int, repeats: int) -> str:
    s = b.shapes[x]
    one = b.op("Unsqueeze", x, b.const([2]), shape=(s[0], keys, 1, *s[2:]))
    many = (s[0], keys, repeats, *s[2:])
    target = [1 if (k != 2 and b.chance(40)) or (b.dynamic and k == 0) else n for k, n in enumerate(many)]
    wide = b.op("Expand", one, b.const(np.array(target, dtype=np.int64)), shape=many)
    return reshaped(b, wide, (s[0], keys * repeats, *s[2:]))


@move(weight=2)
def fused_attention(b: Growing, x: str) -> str | None:
    """The operator Attention, on three or four axes."""
    s = b.shapes[x]
    if len(s) != 3 or b.opset < 23:
        return None
    keys, repeats, width, value = b.pick((1, 2)), b.pick((1, 2)), b.pick((2, 4)), b.pick((2, 4))
    heads = keys * repeats
    sizes = ((heads, width), (keys, width), (keys, value))
    parts = [_project(b, x, h * w) for h, w in sizes]
    mask = [b.vector(s[1], s[1])] if b.chance(30) else []
    if b.chance(50):
        shape = (s[0], s[1], heads * value)
        flat = b.op("Attention", *parts, *mask, shape=shape, q_num_heads=heads, kv_num_heads=keys)
    else:
        parts = [_apart(b, p, h, w) for p, (h, w) in zip(parts, sizes, strict=True)]
        mixed = b.op("Attention", *parts, *mask, shape=(s[0], heads, s[1], value))
        back = b.op("Transpose", mixed, shape=(s[0], s[1], heads, value), perm=[0, 2, 1, 3])
        flat = reshaped(b, back, (s[0], s[1], heads * value))
    return _project(b, flat, s[2])


@move(weight=3)
def squeeze_and_excite(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) != 4:
        return None
    y = b.op("GlobalAveragePool", x, shape=(*s[:2], 1, 1))
    inner = b.width()
    y = b.op("Conv", y, b.weight(inner, s[1], 1, 1, fan_in=s[1]), b.vector(inner), shape=(s[0], inner, 1, 1))
    y = b.op("Relu", y, shape=b.shapes[y])
    y = b.op("Conv", y, b.weight(s[1], inner, 1, 1, fan_in=inner), shape=(s[0], s[1], 1, 1))
    return b.op("Mul", b.op("HardSigmoid", y, shape=b.shapes[y]), x, shape=s)


@move(weight=3)
def residual(b: Growing, x: str) -> str | None:
    """A block with a shortcut around it."""
    s = b.shapes[x]
    if len(s) == 4 and np.prod(s) < 1000:
        inner = b.width()
        y = b.op("Conv", x, b.weight(inner, s[1], 1, 1, fan_in=s[1]), shape=(s[0], inner, *s[2:]))
        y = b.op("Relu", y, shape=b.shapes[y])
        y = b.op("Conv", y, b.weight(s[1], inner, 1, 1, fan_in=inner), b.vector(s[1]), shape=s)
    elif 2 <= len(s) < 4:
        y = _project(b, x, b.width())
        y = _project(b, b.op("Relu", y, shape=b.shapes[y]), s[-1])
    else:
        return None
    return b.op("Add", x, y, shape=s)


@move(weight=2)
def shortcut_of_zeros(b: Growing, x: str) -> str | None:
    """Option A of residual networks: every second pixel, channels padded with zeros."""
    s = b.shapes[x]
    if len(s) != 4 or s[1] > 8 or min(s[2:]) < 4 or b.dynamic:
        return None
    small = b.op(
        "Slice",
        x,
        b.const([0, 0]),
        b.const([2**63 - 1] * 2),
        b.const([2, 3]),
        b.const([2, 2]),
        shape=(*s[:2], -(-s[2] // 2), -(-s[3] // 2)),
    )
    t = b.shapes[small]
    wide = (t[0], 2 * t[1], *t[2:])
    before = t[1] // 2
    amounts = [0, before, 0, 0, 0, t[1] - before, 0, 0]
    padded = b.op("Pad", small, b.const(np.array(amounts, dtype=np.int64)), shape=wide)
    y = b.op("Conv", small, b.weight(wide[1], t[1], 1, 1, fan_in=t[1]), shape=wide)
    return b.op("Add", y, padded, shape=wide)


@move(weight=2)
def from_constants(b: Growing, x: str) -> str | None:
    """A weight that is computed: transposed, reshaped, masked or put together from parts."""
    s = b.shapes[x]
    if not s or (b.dynamic and len(s) < 2):
        return None
    width = b.width()
    shape = (s[-1], width)
    kind = b.choice.integer(0, 3)
    if kind == 0:
        w = b.op("Reshape", b.weight(s[-1] * width, fan_in=s[-1]), b.const(shape), shape=shape)
    elif kind == 1:
        mask = b.const((b.graph.random.random(shape) < 0.7).astype(np.float32))
        w = b.op("Mul", b.weight(*shape, fan_in=s[-1]), mask, shape=shape)
    elif kind == 2:
        parts = [b.weight(s[-1], n, fan_in=s[-1]) for n in (width, b.width())]
        width = sum(b.shapes[p][1] for p in parts)
        shape = (s[-1], width)
        w = b.op("Concat", *parts, shape=shape, axis=1)
    else:
        w = b.op(
            "Add",
            b.weight(*shape, fan_in=s[-1]),
            b.op("MatMul", b.weight(s[-1], 2), b.weight(2, width), shape=shape),
            shape=shape,
        )
    return b.op("MatMul", x, w, shape=(*s[:-1], width))
