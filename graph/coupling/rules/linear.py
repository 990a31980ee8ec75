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


def _matrix_product(n: Node, a: int, b: int, neutral: int = -1) -> Axes:
    """numpy's matmul: vectors are promoted, leading axes broadcast."""
    left, right = n.axes(a), n.axes(b)
    last = max(n.rank(b) - 2, 0)
    summed = n.same(left[-1], right[last])
    weight = n.is_weight(b) or not n.is_weight(a)
    n.contract(b if weight else a, last if weight else n.rank(a) - 1, neutral)
    batch = n.meet(
        [(left[:-2], n.dims(a)[:-2]), (right[:-2], n.dims(b)[:-2])],
        n.out_dims()[: len(n.out_dims()) - (n.rank(a) > 1) - (n.rank(b) > 1)],
    )
    rows = left[-2:-1] if n.rank(a) > 1 else ()
    columns = right[-1:] if n.rank(b) > 1 else ()
    n.share(*batch, *rows, *columns, summed)
    return (*batch, *rows, *columns)


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
