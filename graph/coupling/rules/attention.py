"""Attention as one operator: heads, the width that queries and keys share, and the width of values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...traits import operator
from ..labels import LENGTH_ONE, Axes, Axis
from ..node import Node, couples, rewrites
from ..surgery import Edit


def _heads(n: Node, i: int, lengths: tuple[int, ...]) -> tuple[Axis, ...]:
    """Factors of an operand's heads and width: axes 1 and 3 of (B, heads, S, width), or axis 2 of (B, S, heads*width)."""
    if n.rank(i) == 4:
        return (*n.split(n.axis(i, 1), lengths[:-1]), n.axis(i, 3))
    return n.split(n.axis(i, 2), lengths)


def _head_counts(n: Node) -> tuple[int, int]:
    """Numbers of key heads and of query heads that share each."""
    queries = n.dims(0)[1] if n.rank(0) == 4 else n.attr("q_num_heads")
    keys = n.dims(1)[1] if n.rank(1) == 4 else n.attr("kv_num_heads")
    return keys, queries // keys


def _merged(n: Node, axes: Sequence[Axis], lengths: Sequence[int], rank: int, rows: tuple[Axis, Axis]) -> Axes:
    if rank == 4:
        return (rows[0], n.join(axes[:-1], lengths[:-1]), rows[1], axes[-1])
    return (*rows, n.join(axes, lengths))


@couples("Attention")
def attention(n: Node) -> Sequence[Axes]:
    """Operands: Q, K, V, mask, past key, past value, lengths. Query head (key head, repeat), as grouped queries have it.

    Source: Vaswani et al., 2017, arXiv:1706.03762; Ainslie et al., "GQA", 2023, arXiv:2305.13245.
    """
    keys, repeats = _head_counts(n)
    q_width = n.dims(0)[3] if n.rank(0) == 4 else n.dims(0)[2] // (keys * repeats)
    v_width = n.dims(2)[3] if n.rank(2) == 4 else n.dims(2)[2] // keys
    head, repeat, width = _heads(n, 0, (keys, repeats, q_width))
    key_head, key_width = _heads(n, 1, (keys, q_width))
    value_head, value_width = _heads(n, 2, (keys, v_width))
    head = n.same(n.same(head, key_head), value_head) if keys > 1 else LENGTH_ONE
    width = n.same(width, key_width)
    n.contract(0, 3 if n.rank(0) == 4 else 2)
    for i in (0, 1, 2):
        channels = (1, 3) if n.rank(i) == 4 else (2,)
        n.freeze_rest(i, *channels, text="weighs its indices against each other")
    n.freeze_rest(3, text="holds a mask")
    n.freeze_rest(6, text="holds lengths")
    if any(n.outputs[3:]):
        n.freeze(head, n.why("gives scores of each head"))
        n.freeze(repeat, n.why("gives scores of each head"))
    if n.has(3) and n.rank(3) > 2 and n.dims(3)[-3] > 1:
        n.freeze(head, n.why("masks heads one by one"))
        n.freeze(repeat, n.why("masks heads one by one"))
    n.note("heads", head)
    n.note("repeats", repeat)
    n.share(head, repeat, width, of=q_width / (q_width + v_width))
    n.share(head, repeat, value_width, of=v_width / (q_width + v_width))
    why = n.why("weighs its indices against each other")
    rank = len(n.out_dims())
    out = _merged(n, (head, repeat, value_width), (keys, repeats, v_width), rank, (why, why))
    return [out, *_kept(n, head, width, value_width)]


@rewrites("Attention")
def attention_attributes(e: Edit) -> None:
    """Head counts follow; the default scale is written out, since it names the original width."""
    keys, repeats = _head_counts(e.node)
    width = e.node.dims(0)[3] if e.node.rank(0) == 4 else e.node.dims(0)[2] // (keys * repeats)
    if not e.attr("scale"):
        e.set_attr("scale", 1.0 / math.sqrt(width))
    if e.attr("q_num_heads"):
        left = e.noted("heads", keys)
        e.set_attr("kv_num_heads", left)
        e.set_attr("q_num_heads", left * e.noted("repeats", repeats))


@couples("com.microsoft:MultiHeadAttention", unshared=(3,))
def multi_head_attention(n: Node) -> Sequence[Axes]:
    """Operands: Q, K, V, bias of all three, padding, what is added to scores, caches."""
    if not (n.has(1) and n.has(2)):
        return n.frozen("reads queries, keys and values from one tensor")
    heads, batch = n.attr("num_heads"), n.why("weighs its indices against each other")
    widths = [n.dims(i)[3] if n.rank(i) == 4 else n.dims(i)[2] // heads for i in (0, 1, 2)]
    parts = [_parted(n, i, heads, width) for i, width in enumerate(widths)]
    head, (q_width, k_width, v_width) = LENGTH_ONE if heads == 1 else parts[0][0], (part[1] for part in parts)
    for other, _ in parts[1:]:
        head = n.same(head, other) if heads > 1 else head
    width = n.same(q_width, k_width)
    if n.has(3):
        wholes = [n.join((head, w), (heads, length)) for w, length in zip((width, width, v_width), widths, strict=True)]
        n.same(n.axis(3, 0), n.cat([(w, heads * length) for w, length in zip(wholes, widths, strict=True)]))
        n.contract(3, 0)
    n.contract(0, 2)
    if any(map(n.has, range(8, len(n.inputs)))) or any(n.outputs[3:]):
        for axis in (head, width, v_width):
            n.freeze(axis, n.why("gives scores of each head, or shares a buffer"))
    n.freeze_rest(4, text="holds a mask")
    if n.has(5):
        n.freeze_rest(5, text="holds a mask")
        if n.dims(5)[1] > 1:
            n.freeze(head, n.why("masks heads one by one"))
    n.note("heads", head)
    n.share(head, width, of=widths[0] / (widths[0] + widths[2]))
    n.share(head, v_width, of=widths[2] / (widths[0] + widths[2]))
    out = (batch, batch, n.join((head, v_width), (heads, widths[2])))
    return [out, *_kept(n, head, width, v_width)]


def _kept(n: Node, head: Axis, width: Axis, value_width: Axis) -> list[Axes]:
    """Axes of caches of keys and values, as an operator takes and gives them. Shapes: (B, heads, places, width)."""
    why, made = n.why("keeps a cache of it"), [n.unlabelled(j, n.why("gives it")) for j in range(len(n.outputs))]
    for (i, j), inner in zip(operator(n.proto).caches.items(), (width, value_width), strict=True):
        wide = inner
        if n.has(i):
            n.freeze_rest(i, 1, 3, text=why.text)
            head = n.same(head, n.axis(i, 1)) if n.dims(i)[1] > 1 else head
            wide = n.same(inner, n.axis(i, 3))
        if j < len(made):
            made[j] = (why, head, why, wide)
    return made[1:]


def _parted(n: Node, i: int, heads: int, width: int) -> tuple[Axis, Axis]:
    """Heads and width of an operand (B, S, heads*width) or (B, heads, S, width)."""
    at = (1, 3) if n.rank(i) == 4 else (2,)
    n.freeze_rest(i, *at, text="weighs its indices against each other")
    if n.rank(i) == 4:
        return n.axis(i, 1), n.axis(i, 3)
    head, inner = n.split(n.axis(i, 2), (heads, width))
    return head, inner


@couples("com.microsoft:QAttention", unshared=(2, 3, 4, 6, 7))
def quantized_attention(n: Node) -> Sequence[Axes]:
    """Operands: x (B, S, C), weights (C, 3*heads*width), bias, scales of both, mask, zero points of both, cache."""
    why, heads = n.why("weighs its indices against each other"), n.attr("num_heads")
    if n.has(8) or any(n.outputs[1:]):
        return n.frozen("keeps a cache of it")
    if n.has(7) and math.prod(n.dims(7)) > 1:
        return n.frozen("has weights with zero points of their own")
    inside, outside = n.dims(1)
    width = outside // 3 // heads
    inputs = n.same(n.axis(0, 2), n.axis(1, 0))
    n.freeze_rest(0, 2, text=why.text)
    n.freeze_rest(5, text="holds a mask")
    columns = n.axis(1, 1)
    n.follow(columns, 2, 4)
    part, head, inner = n.split(columns, (3, heads, width))
    n.freeze(part, n.why("needs queries, keys and values"))
    for i, a, neutral in ((1, 0, 7), (1, 1, 7), (2, 0, -1)):
        n.contract(i, a, neutral)
    n.note("heads", head)
    products = 3 * inside / (3 * inside + 2 * n.dims(0)[1])
    n.share(inputs, head, inner, of=products)
    n.share(head, inner, of=1 - products)
    return [(why, why, n.join((head, inner), (heads, width)))]


@rewrites("com.microsoft:QAttention")
def quantized_attention_attributes(e: Edit) -> None:
    _heads_follow(e, e.node.dims(1)[1] // 3 // e.attr("num_heads"))


@rewrites("com.microsoft:MultiHeadAttention")
def multi_head_attributes(e: Edit) -> None:
    _heads_follow(e, e.node.dims(0)[2] // e.attr("num_heads"))


def _heads_follow(e: Edit, width: int) -> None:
    """The head count follows; the default scale is written out, since it names the original width."""
    if not e.attr("scale"):
        e.set_attr("scale", 1.0 / math.sqrt(width))
    e.set_attr("num_heads", e.noted("heads", e.attr("num_heads")))


@couples("com.microsoft:GroupQueryAttention")
def grouped_query_attention(n: Node) -> Sequence[Axes]:
    """Operands: Q, K, V (or all in one), caches, lengths, tables, places, what is added to scores.

    A key head goes with the queries that share it, or one query of each key head goes.
    """
    keys, heads, why = n.attr("kv_num_heads"), n.attr("num_heads"), n.why("weighs its indices against each other")
    repeats, packed = heads // keys, not n.has(1)
    width = n.dims(0)[2] // (heads + 2 * keys if packed else heads)
    if any(map(n.has, range(11, len(n.inputs)))) or any(n.outputs[3:]) or (n.has(10) and n.dims(10)[1] > 1):
        return n.frozen("weighs or keeps heads one by one")
    head, repeat, inner = n.fresh(keys), n.fresh(repeats), n.why("has kernels for few widths of a head")
    wide, shared = (keys, repeats, width), (keys, width)
    queries, pair = n.join((head, repeat, inner), wide), n.join((head, inner), shared)
    if packed:
        parts = [(queries, heads * width), (pair, keys * width), (pair, keys * width)]
        n.same(n.axis(0, 2), n.cat(parts))
    for i in () if packed else (0, 1, 2):
        n.same(n.axis(i, 2), pair if i else queries)
    for i in range(3 if not packed else 1):
        n.freeze_rest(i, 2, text=why.text)
    for i in range(5, min(len(n.inputs), 11)):
        n.freeze_rest(i, text="holds lengths, angles or places")
    n.note("heads", head)
    n.note("repeats", repeat)
    n.share(head, repeat)
    return [(why, why, queries), *_kept(n, head, inner, inner)]


@rewrites("com.microsoft:GroupQueryAttention")
def grouped_query_heads(e: Edit) -> None:
    keys = e.attr("kv_num_heads")
    left = e.noted("heads", keys)
    e.set_attr("kv_num_heads", left)
    e.set_attr("num_heads", left * e.noted("repeats", e.attr("num_heads") // keys))


@couples("RotaryEmbedding", unshared=(1, 2))
def rotary(n: Node) -> Sequence[Axes]:
    """Pairs of the head width rotate together: halves, or neighbours if interleaved. Operands: x, cos, sin, positions.

    Source: Su et al., "RoFormer", 2021, arXiv:2104.09864.
    """
    return _rotated(n, (1, 2))


@couples("com.microsoft:RotaryEmbedding", unshared=(2, 3))
def rotary_of_runtime(n: Node) -> Sequence[Axes]:
    """Operands: x, positions, cos, sin."""
    n.freeze_rest(1, text="holds positions")
    return _rotated(n, (2, 3))


def _rotated(n: Node, tables: tuple[int, int]) -> Sequence[Axes]:
    if n.attr("rotary_embedding_dim", 0):
        return n.frozen("rotates part of it")
    heads = n.dims(0)[1] if n.rank(0) == 4 else n.attr("num_heads", 0) or n.dims(0)[2] // (2 * n.dims(tables[0])[-1])
    width = n.dims(0)[3] if n.rank(0) == 4 else n.dims(0)[2] // heads
    head, inner = _heads(n, 0, (heads, width))
    halves = n.split(inner, (width // 2, 2) if n.attr("interleaved", 0) else (2, width // 2))
    pair, side = halves if n.attr("interleaved", 0) else halves[::-1]
    n.freeze(side, n.why("rotates both halves of it together"))
    for i in tables:
        pair = n.same(pair, n.axis(i, -1))
        n.freeze_rest(i, -1, text="is read at positions")
    n.note("heads", head)
    return [n.axes(0)]


@rewrites("RotaryEmbedding", "com.microsoft:RotaryEmbedding")
def rotary_heads(e: Edit) -> None:
    if e.attr("num_heads"):
        e.set_attr("num_heads", e.noted("heads", e.attr("num_heads")))
