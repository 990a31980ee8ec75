"""Matrix products: the summed axes agree, the others pass through."""

from __future__ import annotations

from collections.abc import Sequence

from ...macs import parse_equation
from ..labels import LENGTH_ONE, Axes, Axis
from ..node import Node, couples


@couples("Gemm", unshared=(2,))
def gemm(n: Node) -> Sequence[Axes]:
    """Shapes: A (M, K) or (K, M), B (K, N) or (N, K), C broadcast to (M, N)."""
    across_a, across_b = (0 if n.attr("transA", 0) else 1), (1 if n.attr("transB", 0) else 0)
    summed = n.same(n.axis(0, across_a), n.axis(1, across_b))
    n.contract(1 if n.is_weight(1) else 0, across_b if n.is_weight(1) else across_a)
    rows, columns = n.axis(0, 1 - across_a), n.axis(1, 1 - across_b)
    out: Axes = (rows, columns)
    if n.has(2):
        out = n.meet([(out, n.out_dims()), (n.axes(2), n.dims(2))], n.out_dims())
    n.share(rows, columns, summed)
    return [out]


def _matrix_product(n: Node, a: int, b: int, neutral: int = -1, flips: tuple[int, int] = (0, 0)) -> Axes:
    """numpy's matmul: vectors are promoted, leading axes broadcast. ``flips`` swap the last two axes of a side."""
    left, right = (_flipped(n.axes(i), flip) for i, flip in zip((a, b), flips, strict=True))
    last = max(n.rank(b) - 2, 0)
    summed = n.same(left[-1], right[last])
    weight = n.is_weight(b) or not n.is_weight(a)
    across_a, across_b = n.rank(a) - 1 - bool(flips[0]), last + bool(flips[1])
    n.contract(b if weight else a, across_b if weight else across_a, neutral)
    batch = n.meet(
        [(left[:-2], n.dims(a)[:-2]), (right[:-2], n.dims(b)[:-2])],
        n.out_dims()[: len(n.out_dims()) - (n.rank(a) > 1) - (n.rank(b) > 1)],
    )
    rows = left[-2:-1] if n.rank(a) > 1 else ()
    columns = right[-1:] if n.rank(b) > 1 else ()
    n.share(*batch, *rows, *columns, summed)
    return (*batch, *rows, *columns)


def _flipped(axes: Axes, flip: int) -> Axes:
    return (*axes[:-2], axes[-1], axes[-2]) if flip and len(axes) > 1 else axes


@couples("MatMul")
def matmul(n: Node) -> Sequence[Axes]:
    return [_matrix_product(n, 0, 1)]


@couples("MatMulInteger", unshared=(2, 3))
def matmul_integer(n: Node) -> Sequence[Axes]:
    """Zero points: for A one or one per row, for B one or one per column."""
    out = _matrix_product(n, 0, 1, neutral=3 if n.is_weight(1) else 2)
    for i in (2, 3):
        if n.has(i) and n.rank(i) == 1 and n.dims(i)[0] > 1:
            n.same(out[i - 4], n.axis(i, 0))
    return [out]


@couples("QLinearMatMul", unshared=(1, 2, 4, 5, 6, 7))
def qlinear_matmul(n: Node) -> Sequence[Axes]:
    """Operands: A, its scale and zero point, B, its scale and zero point, y's scale and zero point."""
    out = _matrix_product(n, 0, 3, neutral=5 if n.is_weight(3) else 2)
    for side, positions in ((-2, (1, 2)), (-1, (4, 5))):
        for i in positions:
            if n.rank(i) == 1 and n.dims(i)[0] > 1:
                n.same(out[side], n.axis(i, 0))
            elif n.rank(i) > 1:
                n.freeze_rest(i, text="scales blocks of it")
    return [out]


@couples("com.microsoft:FusedMatMul")
def fused_matmul(n: Node) -> Sequence[Axes]:
    """A product of sides whose last axes may be swapped."""
    if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
        return n.frozen("moves its first axis between the last two")
    return [_matrix_product(n, 0, 1, flips=(n.attr("transA", 0), n.attr("transB", 0)))]


@couples("com.microsoft:DynamicQuantizeMatMul", unshared=(2, 3, 4))
def dynamic_product(n: Node) -> Sequence[Axes]:
    """Operands: A, B, scale and zero point of B (one, or one per column), bias. Ranges are taken over what is there."""
    for axis in n.axes(0):
        n.inexact(axis, "takes its range over it", at_least=1)
    out = _matrix_product(n, 0, 1, neutral=3)
    n.follow(out[-1], 2, 3, 4)
    return [out]


@couples("com.microsoft:MatMulIntegerToFloat", unshared=(2, 3, 4, 5, 6))
def product_to_floats(n: Node) -> Sequence[Axes]:
    """Operands: A, B, their scales, their zero points, bias."""
    if any(n.has(i) and n.rank(i) and n.dims(i) != (1,) for i in (2, 4)):
        return n.frozen("scales its rows one by one")
    out = _matrix_product(n, 0, 1, neutral=5 if n.is_weight(1) else 4)
    n.follow(out[-1], 3, 5, 6)
    return [out]


@couples("com.microsoft:QGemm", unshared=(1, 2, 4, 5, 6, 7, 8))
def quantized_gemm(n: Node) -> Sequence[Axes]:
    """Operands: A, its scale and zero point, B, its scale and zero point (one, or one per column), C, those of y."""
    flips = (n.attr("transA", 0), n.attr("transB", 0))
    out = _matrix_product(n, 0, 3, neutral=5 if n.is_weight(3) else 2, flips=flips)
    n.follow(out[-1], 4, 5, 6)
    return [out]


@couples("Einsum")
def einsum(n: Node) -> Sequence[Axes]:
    """One letter, one axis: equal letters agree, letters missing from the output are summed over."""
    terms, result = parse_equation(n.attr("equation"), [n.rank(i) for i in range(len(n.inputs))])
    found: dict[str, Axis] = {}
    for i, term in enumerate(terms):
        if len(set(term)) < len(term):
            return n.frozen("reads a diagonal of it")
        for a, letter in enumerate(term):
            if n.dims(i)[a] > 1:
                axis = n.axis(i, a)
                found[letter] = n.same(found[letter], axis) if letter in found else axis
    for letter in found:
        if letter not in result:
            holders = [i for i, term in enumerate(terms) if letter in term and n.dims(i)[term.index(letter)] > 1]
            i = next((i for i in holders if n.is_weight(i)), holders[0])
            n.contract(i, terms[i].index(letter))
    n.share(*found.values())
    return [tuple(found.get(letter, LENGTH_ONE) for letter in result)]
