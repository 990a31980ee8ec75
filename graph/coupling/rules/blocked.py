"""Products whose weights lie in blocks along the inputs: outputs can go one by one, inputs a whole block at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..labels import Axes, Axis
from ..node import Node, couples, rewrites
from ..surgery import Edit

_SCALES, _ZEROS, _ORDER, _BIAS = 2, 3, 4, 5


def _inputs_of(n: Node, blocks: Axis, count: int, size: int) -> Axis:
    """Labels of the summed axis of A, whose indices go with their block."""
    if n.dims(0)[-1] != count * size:
        return n.freeze_axis(0, -1, "ends in a block of it that is not full")
    whole = n.ledger.join((blocks, n.why("reads blocks of it")), (count, size))
    n.contract(0, n.rank(0) - 1)
    return n.same(n.axis(0, -1), whole)


@couples("com.microsoft:MatMulNBits", unshared=(_ZEROS, _ORDER, _BIAS))
def nbits(n: Node) -> Sequence[Axes]:
    """Shapes: A (..., K), B (N, blocks, bytes), scales and zero points (N, blocks) or flat, order, bias (N), y (..., N).

    Several zero points of fewer than 8 bits share a byte: which stay is settled when the others go.
    """
    columns, count, _ = n.dims(1)
    outputs, blocks, _ = n.axes(1, 0, 1)
    for i in (_SCALES, _ZEROS):
        if n.has(i):
            each, inner = n.axes(i) if n.rank(i) > 1 else n.split(n.axis(i, 0), (columns, n.dims(i)[0] // columns))
            outputs = n.same(outputs, each)
            if not _packed(n, i):
                blocks = n.same(blocks, inner)
            elif n.is_weight(i):
                n.freeze(inner, n.why("packs several blocks into a byte of it"))
            else:
                blocks = n.freeze(blocks, n.why("has zero points that are computed"))
    if n.has(_ORDER):
        n.freeze(blocks, n.why("reads blocks of it in an order of its own"))
    if n.has(_BIAS):
        outputs = n.same(outputs, n.axis(_BIAS, 0))
    summed = _inputs_of(n, blocks, count, n.attr("block_size"))
    n.share(*n.axes(0)[:-1], summed, outputs)
    return [(*n.axes(0)[:-1], outputs)]


def _packed(n: Node, i: int) -> bool:
    columns, count, _ = n.dims(1)
    return i == _ZEROS and int(np.prod(n.dims(i))) != columns * count


@rewrites("com.microsoft:MatMulNBits")
def nbits_left(e: Edit) -> None:
    e.set_attr("N", e.kept(1, 0))
    e.set_attr("K", e.kept(0, -1))
    if e.node.has(_ZEROS) and _packed(e.node, _ZEROS) and e.shrinks(1, 1):
        value, (columns, count, _) = e.node.value(_ZEROS), e.node.dims(1)
        assert value is not None
        rows = value.reshape(columns, -1)[e.keep(1, 0)]
        packed = _repacked(rows, count, e.keep(1, 1), e.attr("bits", 4))
        e.set_input(_ZEROS, packed if value.ndim > 1 else packed.reshape(-1))


def _repacked(rows: np.ndarray, count: int, stay: np.ndarray, bits: int) -> np.ndarray:
    """Some of each row's numbers of so many bits, the first in the lowest bits. Shapes: (rows, bytes) -> (rows, bytes)."""
    spread = np.unpackbits(rows, axis=1, bitorder="little")[:, : count * bits].reshape(len(rows), count, bits)
    return np.packbits(spread[:, stay].reshape(len(rows), -1), axis=1, bitorder="little")


@couples("com.microsoft:MatMulBnb4")
def bnb4(n: Node) -> Sequence[Axes]:
    """Shapes: A (..., K), B flat: N rows of K / 2 bytes, scales flat: N rows of K / block_size, y (..., N)."""
    size, columns = n.attr("block_size"), n.attr("N")
    if n.attr("K") % size or not n.attr("transB", 1):
        return n.frozen("reads blocks of it that several of its outputs share")
    count = n.attr("K") // size
    outputs, blocks, inner = n.split(n.axis(1, 0), (columns, count, size // 2))
    n.freeze(inner, n.why("reads blocks of it"))
    each, scales = n.split(n.axis(2, 0), (columns, count))
    outputs, blocks = n.same(outputs, each), n.same(blocks, scales)
    summed = _inputs_of(n, blocks, count, size)
    n.share(*n.axes(0)[:-1], summed, outputs)
    return [(*n.axes(0)[:-1], outputs)]


@rewrites("com.microsoft:MatMulBnb4")
def bnb4_left(e: Edit) -> None:
    e.set_attr("N", 2 * e.kept(1, 0) // e.kept(0, -1))
    e.set_attr("K", e.kept(0, -1))
