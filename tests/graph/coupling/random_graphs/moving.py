"""Moves that carry indices about: reshapes, cuts, joins, repeats."""

from __future__ import annotations

import numpy as np

from .growing import LARGEST, Growing, Shape, move
from .pointwise import reduce_over

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@move(weight=4)
def transpose(b: Growing, x: str) -> str | None:
    s, axes = b.shapes[x], b.axes(x)
    if len(axes) < 2:
        return None
    perm = [*range(len(s) - len(axes)), *(axes[k] for k in b.order(len(axes)))]
    more = {} if not b.dynamic and perm == list(reversed(range(len(s)))) else {"perm": perm}
    return b.op("Transpose", x, shape=[s[k] for k in perm], **more)


def _primes(n: int) -> list[int]:
    out, p = [], 2
    while n > 1:
        while n % p == 0:
            out.append(p)
            n //= p
        p += 1
    return out


def _regrouped(b: Growing, dims: Shape) -> Shape:
    """Another shape of the same size: prime factors in order, cut anew; ones thrown in."""
    factors: list[int] = []
    for n in dims:
        mine = _primes(n)
        factors += [mine[k] for k in b.order(len(mine))]
    out: list[int] = []
    for f in factors:
        if out and b.chance(55):
            out[-1] *= f
        else:
            out.append(f)
    if b.chance(15):
        out.insert(b.choice.integer(0, len(out)), 1)
    return tuple(out[:5]) if len(out) <= 5 else (*out[:4], int(np.prod(out[4:])))


def _target(b: Growing, old: Shape, new: Shape) -> list[int]:
    """The operand of Reshape as exporters write it, with 0 for a copied length and -1 for the rest."""
    target = [0 if k < len(old) and old[k] == n and b.chance(40) else n for k, n in enumerate(new)]
    if b.dynamic:
        target[0] = 0
    if b.chance(50):
        target[b.choice.integer(1 if b.dynamic and len(new) > 1 else 0, len(new) - 1)] = -1
    return target


def reshaped(b: Growing, x: str, new: Shape) -> str:
    """Reshape with a constant target, or one computed from the shape of the tensor."""
    s = b.shapes[x]
    if not b.chance(25):
        return b.op("Reshape", x, b.const(np.array(_target(b, s, new), dtype=np.int64)), shape=new)
    parts = []
    lengths = b.op("Shape", x, shape=(len(s),))
    for k, n in enumerate(new):
        if k < len(s) and s[k] == n:
            read = b.op("Gather", lengths, b.const(k), shape=(), axis=0)
            parts.append(b.op("Unsqueeze", read, b.const([0]), shape=(1,)))
        else:
            parts.append(b.const(np.array([n], dtype=np.int64)))
    target = b.op("Concat", *parts, shape=(len(parts),), axis=0)
    return b.op("Reshape", x, target, shape=new)


@move(weight=8)
def reshape(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    kept = 1 if b.dynamic or (len(s) > 1 and b.chance(85)) else 0
    new = (*s[:kept], *_regrouped(b, s[kept:]))
    return reshaped(b, x, new) if new and np.prod(new) == np.prod(s) else None


@move(weight=3)
def shuffle(b: Growing, x: str) -> str | None:
    """Split a channel axis, turn its factors, merge them: a channel shuffle, or two."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None or len(_primes(s[at])) < 2:
        return None
    groups = b.pick([g for g in range(2, s[at]) if s[at] % g == 0])
    wide = (*s[:at], groups, s[at] // groups, *s[at + 1 :])
    perm = [*range(at), at + 1, at, *range(at + 2, len(wide))]
    turned = b.op("Transpose", reshaped(b, x, wide), shape=[wide[k] for k in perm], perm=perm)
    return reshaped(b, turned, s)


@move(weight=2)
def flatten(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) < 2:
        return None
    at = b.choice.integer(1, len(s)) if not b.dynamic else 1
    shape = (int(np.prod(s[:at])), int(np.prod(s[at:])))
    return b.op("Flatten", x, shape=shape, axis=b.spelled(at, len(s)) if at < len(s) else at)


@move(weight=2)
def ones(b: Growing, x: str) -> str | None:
    """Unsqueeze, or squeeze with and without axes."""
    s = b.shapes[x]
    floor = 1 if b.dynamic else 0
    single = [k for k in range(floor, len(s)) if s[k] == 1]
    if single and b.chance(60):
        gone = single if b.dynamic or b.chance(60) else [k for k, n in enumerate(s) if n == 1]
        operand = (
            []
            if gone == [k for k, n in enumerate(s) if n == 1] and not b.dynamic and b.chance(50)
            else [b.const([b.spelled(k, len(s)) for k in gone])]
        )
        return b.op("Squeeze", x, *operand, shape=[n for k, n in enumerate(s) if k not in gone])
    if len(s) > 4:
        return None
    at = b.choice.integer(floor, len(s))
    return b.op("Unsqueeze", x, b.const([b.spelled(at, len(s) + 1)]), shape=(*s[:at], 1, *s[at:]))


@move(weight=5)
def concat(b: Growing, x: str) -> str | None:
    """With anything that fits: others, constants, itself."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None:
        return None
    others = b.peers(x, lambda t: len(t) == len(s) and t[:at] == s[:at] and t[at + 1 :] == s[at + 1 :])
    parts = [b.pick(others) if others else x for _ in range(b.choice.integer(1, 2))]
    parts.insert(b.choice.integer(0, len(parts)), x)
    if not b.dynamic and b.chance(15):
        parts.append(b.vector(*s[:at], b.pick((1, 2, 3)), *s[at + 1 :]))
    length = sum(b.shapes[p][at] for p in parts)
    if np.prod(s) // s[at] * length > LARGEST or length > 32:
        return None
    return b.op("Concat", *parts, shape=(*s[:at], length, *s[at + 1 :]), axis=b.spelled(at, len(s)))


def _cuts(b: Growing, length: int) -> list[int]:
    """Sizes that add up to the length."""
    count = b.choice.integer(2, min(3, length))
    if length % count == 0 and b.chance(60):
        return [length // count] * count
    ends = sorted(b.order(length - 1)[: count - 1])
    return [int(n) for n in np.diff([0, *(e + 1 for e in ends), length])]


@move(weight=5)
def split(b: Growing, x: str) -> list[str] | None:
    """Even, uneven, without sizes; the parts are used apart, added, multiplied or put together in another order."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None or s[at] < 2:
        return None
    sizes = _cuts(b, s[at])
    operands, more = [b.const(np.array(sizes, dtype=np.int64))], {}
    if len(set(sizes)) == 1 and b.chance(40):
        operands, more = [], {"num_outputs": len(sizes)} if b.opset >= 18 else {}
    shapes: list[Shape] = [(*s[:at], n, *s[at + 1 :]) for n in sizes]
    parts = b.ops("Split", x, *operands, shapes=shapes, axis=b.spelled(at, len(s)), **more)
    if len(set(sizes)) == 1 and b.chance(40):
        gate = b.op("Sigmoid", parts[1], shape=shapes[1])
        return [b.op("Mul", parts[0], gate, shape=shapes[0]), *parts[2:]]
    if b.chance(40):
        turned = [parts[k] for k in b.order(len(parts))]
        return [b.op("Concat", *turned, shape=s, axis=at)]
    return parts


@move(weight=5)
def cut(b: Growing, x: str) -> str | None:
    """Slice: any start, end and step, also backwards, with ends beyond the axis."""
    s = b.shapes[x]
    chosen = sorted({b.pick(b.axes(x)) for _ in range(b.choice.integer(1, 2))}) if b.axes(x) else []
    if not chosen:
        return None
    starts: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    shape = list(s)
    for k in chosen:
        n = s[k]
        step = b.pick((1, 1, 1, 2, 3, -1, -2))
        low = b.choice.integer(0, n - 1)
        high = b.choice.integer(low + 1, n)
        if step > 0:
            start, end = low, high
            if high == n and b.chance(60):
                end = b.pick((_HIGHEST, 2**31 - 1, n + 3))
        else:
            start, end = high - 1, low - 1
            if low == 0:
                end = b.pick((_LOWEST, -(2**31), -n - 1))
        count = len(range(low, high, step)) if step > 0 else len(range(high - 1, low - 1, step))
        if start > 0 and b.chance(30):
            start -= n
        starts, ends, steps = [*starts, start], [*ends, end], [*steps, step]
        shape[k] = count
    operands = [b.const(np.array(v, dtype=np.int64)) for v in (starts, ends)]
    operands.append(b.const([b.spelled(k, len(s)) for k in chosen]))
    if set(steps) != {1} or b.chance(50):
        operands.append(b.const(np.array(steps, dtype=np.int64)))
    return b.op("Slice", x, *operands, shape=shape)


@move(weight=4)
def gather(b: Growing, x: str) -> str | None:
    """Constant indices of rank 0, 1 or 2: repeated, negative, in any order."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None:
        return None
    shape = b.pick([(), (2,), (3,), (4,), (2, 2), (2, 3), (1,), (1, 2)])
    if b.chance(35):
        indices = np.array(b.order(s[at]))
    else:
        indices = np.array([b.choice.integer(-s[at], s[at] - 1) for _ in range(int(np.prod(shape)))]).reshape(shape)
    out = (*s[:at], *indices.shape, *s[at + 1 :])
    if len(out) > 5 or np.prod(out) > LARGEST:
        return None
    kind = b.pick(["int64", "int32"])
    return b.op("Gather", x, b.const(indices, kind), shape=out, axis=b.spelled(at, len(s)))


@move(weight=3)
def pad(b: Growing, x: str) -> str | None:
    """Constant borders on a channel axis, also negative ones; other modes now and then."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None:
        return None
    mode = b.pick(["constant", "constant", "constant", "edge", "reflect"])
    low = 0 if mode != "constant" else -1
    before, after = (b.choice.integer(low, min(2, s[at] - 1)) for _ in range(2))
    length = s[at] + before + after
    if length < 1 or (mode != "constant" and s[at] < 3):
        return None
    value = [b.const(0.3)] if mode == "constant" and b.chance(40) else []
    shape = (*s[:at], length, *s[at + 1 :])
    if b.opset >= 18 and b.chance(50):
        axes = b.const([b.spelled(at, len(s))])
        return b.op("Pad", x, b.const([before, after]), *(value or [""]), axes, shape=shape, mode=mode)
    amounts = np.zeros((2, len(s)), dtype=np.int64)
    amounts[:, at] = before, after
    return b.op("Pad", x, b.const(amounts.reshape(-1)), *value, shape=shape, mode=mode)


@move(weight=4)
def repeat(b: Growing, x: str) -> str | None:
    """Expand an axis of length 1, or tile one."""
    s = b.shapes[x]
    floor = 1 if b.dynamic else 0
    single = [k for k in range(floor, len(s)) if s[k] == 1]
    if single and b.chance(70):
        at, times = b.pick(single), b.width()
        shape = (*s[:at], times, *s[at + 1 :])
        if np.prod(shape) > LARGEST:
            return None
        target = [
            1 if (b.dynamic and k == 0) or (n == m and b.chance(50)) else n
            for k, (n, m) in enumerate(zip(shape, s, strict=True))
        ]
        return b.op("Expand", x, b.const(np.array(target, dtype=np.int64)), shape=shape)
    along = b.some_axis(x)
    if along is None:
        return None
    times = b.pick((2, 3))
    shape = (*s[:along], s[along] * times, *s[along + 1 :])
    if np.prod(shape) > LARGEST or shape[along] > 36:
        return None
    repeats = [times if k == along else 1 for k in range(len(s))]
    return b.op("Tile", x, b.const(np.array(repeats, dtype=np.int64)), shape=shape)


@move(weight=2)
def repeat_heads(b: Growing, x: str) -> str | None:
    """Unsqueeze, expand, merge: each index repeated, as grouped queries repeat their keys."""
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None or len(s) > 4 or np.prod(s) * 2 > LARGEST:
        return None
    times = b.pick((2, 3))
    place = at + b.choice.integer(0, 1)
    one = b.op("Unsqueeze", x, b.const([place]), shape=(*s[:place], 1, *s[place:]))
    many = (*s[:place], times, *s[place:])
    target = [1 if b.dynamic and k == 0 else n for k, n in enumerate(many)]
    wide = b.op("Expand", one, b.const(np.array(target, dtype=np.int64)), shape=many)
    return reshaped(b, wide, (*s[:at], s[at] * times, *s[at + 1 :]))


@move(weight=2)
def depth_and_space(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) != 4:
        return None
    if s[1] % 4 == 0 and np.prod(s) < LARGEST and b.chance(60):
        shape = (s[0], s[1] // 4, s[2] * 2, s[3] * 2)
        return b.op("DepthToSpace", x, shape=shape, blocksize=2, mode=b.pick(["DCR", "CRD"]))
    if s[2] % 2 or s[3] % 2:
        return None
    return b.op("SpaceToDepth", x, shape=(s[0], s[1] * 4, s[2] // 2, s[3] // 2), blocksize=2)


@move(weight=3)
def pool(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if not 3 <= len(s) <= 4:
        return None
    if b.chance(30):
        return b.op(b.pick(["GlobalAveragePool", "GlobalMaxPool"]), x, shape=(*s[:2], *(1 for _ in s[2:])))
    if min(s[2:]) < 2:
        return None
    kernel = [2] * (len(s) - 2)
    return b.op(
        b.pick(["MaxPool", "AveragePool", "LpPool"]),
        x,
        shape=(*s[:2], *(n // 2 for n in s[2:])),
        kernel_shape=kernel,
        strides=kernel,
    )


@move(weight=2)
def resize(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    if len(s) != 4 or np.prod(s) * 4 > LARGEST:
        return None
    shape = (*s[:2], s[2] * 2, s[3] * 2)
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if b.chance(50) and not b.dynamic:
        return b.op("Resize", x, "", "", b.const(np.array(shape, dtype=np.int64)), shape=shape, **mode)
    return b.op("Resize", x, "", b.const(np.array([1.0, 1, 2, 2])), shape=shape, **mode)


@move(weight=3)
def reduce(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    axes = b.axes(x)
    if not axes:
        return None
    over = sorted({b.pick(axes) for _ in range(b.choice.integer(1, 2))})
    kind = b.pick(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceSumSquare"])
    keep = b.chance(50)
    shape = tuple(1 if k in over else n for k, n in enumerate(s) if keep or k not in over)
    return reduce_over(b, kind, x, over, shape, keep) if shape else None


@move(weight=1)
def running_sum(b: Growing, x: str) -> str | None:
    at = b.some_axis(x)
    if at is None:
        return None
    flags = {"exclusive": int(b.chance(30)), "reverse": int(b.chance(30))}
    return b.op("CumSum", x, b.const(b.spelled(at, b.rank(x))), shape=b.shapes[x], **flags)


@move(weight=1)
def top(b: Growing, x: str) -> str | None:
    s = b.shapes[x]
    at = b.some_axis(x)
    if at is None:
        return None
    count = b.choice.integer(1, s[at])
    shape = (*s[:at], count, *s[at + 1 :])
    values, _ = b.ops("TopK", x, b.const([count]), shapes=[shape, shape], axis=b.spelled(at, len(s)))
    return values


@move(weight=1)
def triangle(b: Growing, x: str) -> str | None:
    if b.rank(x) < 2 or b.dynamic or b.opset < 14:
        return None
    return b.op("Trilu", x, shape=b.shapes[x], upper=b.pick((0, 1)))


@move(weight=1)
def at_positions(b: Growing, x: str) -> str | None:
    """GatherElements, GatherND, ScatterElements, ScatterND with constant indices."""
    s = b.shapes[x]
    if b.dynamic or not s or np.prod(s) > 600:
        return None
    kind, random = b.pick(["GatherElements", "GatherND", "ScatterElements", "ScatterND"]), b.graph.random
    at = b.choice.integer(0, len(s) - 1)
    if kind == "GatherElements":
        shape = (*s[:at], b.pick((1, s[at], s[at] + 1)), *s[at + 1 :])
        return b.op(kind, x, b.const(random.integers(0, s[at], shape)), shape=shape, axis=b.spelled(at, len(s)))
    if kind == "ScatterElements":
        count = b.choice.integer(1, s[at])
        shape = (*s[:at], count, *s[at + 1 :])
        indices = np.broadcast_to(random.permutation(s[at])[:count].reshape([-1, *(1 for _ in s[at + 1 :])]), shape)
        return b.op(kind, x, b.const(indices), b.vector(*shape), shape=s, axis=b.spelled(at, len(s)))
    depth = b.choice.integer(1, len(s))
    rows = 2
    indices = np.stack([random.permutation(max(n, rows))[:rows] % n for n in s[:depth]], axis=1)
    if kind == "GatherND":
        return b.op(kind, x, b.const(indices), shape=(rows, *s[depth:]))
    if len({tuple(r) for r in indices.tolist()}) < rows:
        return None
    return b.op(kind, x, b.const(indices), b.vector(rows, *s[depth:]), shape=s)
