"""Multiply-accumulates of one node, from shapes and attributes alone: one small function an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import onnx

from .nodes import attribute, is_standard
from .registry import registers
from .traits import operator, operator_key

Dims = tuple[int, ...]
# Shapes of the inputs and outputs by position; an input that is left out has the empty shape.
Formula = Callable[[onnx.NodeProto, Sequence[Dims], Sequence[Dims]], int]
FORMULAS: dict[str, Formula] = {}


counts = registers(FORMULAS)
"""Register the formula of operators; those outside the ONNX standard are named ``domain:operator``."""


def formula(node: onnx.NodeProto) -> Formula | None:
    """The formula for a node; None for operators that multiply and accumulate nothing."""
    return FORMULAS.get(operator_key(node))


@counts("Conv", "ConvInteger", "DeformConv", "QLinearConv", "com.microsoft:FusedConv", "com.microsoft:QLinearConv")
def conv(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Each output element sums over one filter. Shapes: weight (O, I/group, ...)."""
    return prod(y[0]) * prod(x[operator(node).weight][1:])


@counts("ConvTranspose")
def conv_transpose(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Each input element is spread by one filter, cropped or not. Shapes: weight (I, O/group, ...)."""
    return prod(x[0]) * prod(x[1][1:])


@counts("MatMul", "MatMulInteger", "QLinearMatMul", "com.microsoft:MatMulIntegerToFloat", "com.microsoft:FusedMatMul")
@counts("com.microsoft:DynamicQuantizeMatMul", "com.microsoft:MatMulBnb4", "com.microsoft:MatMulInteger16")
@counts("Gemm", "com.microsoft:QGemm", "com.microsoft:FusedGemm", "intaglio:MatMul1Bit", "intaglio:MatMul1BitInt8")
def matmul(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Weights on either side or none; leading axes broadcast. Planes of bits that stand for weights are one weight each."""
    return prod(y[0]) * x[0][-2 if attribute(node, "transA", 0) else -1]


@counts("com.microsoft:MatMulNBits")
def matmul_nbits(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    return prod(y[0]) * int(attribute(node, "K"))


@counts("LSTM", "GRU", "RNN", "com.microsoft:DynamicQuantizeLSTM")
def recurrent(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Every step of every sequence multiplies by all weights. Shapes: x (T, B, I) or (B, T, I), W, R (D, gates*H, ...)."""
    return prod(x[0][:2]) * (prod(x[1]) + prod(x[2]))


@counts("Attention", "com.microsoft:MultiHeadAttention")
def attention(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Scores, then the weighted sum; each query element and each output element meets every key position.

    Shapes: Q, K, V (B, heads, length, width) or (B, length, heads*width); a past key lengthens the keys.
    """
    past = x[4] if is_standard(node) and len(x) > 4 else ()
    keys = x[1][-2] + (past[-2] if past else 0)
    return (prod(x[0]) + prod(y[0])) * keys


@counts("com.microsoft:GroupQueryAttention")
def grouped_query_attention(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Every query meets each key position, those of the cache too."""
    return 2 * prod(y[0]) * y[1][2]


@counts("com.microsoft:Attention", "com.microsoft:QAttention")
def projected_attention(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Queries, keys and values of x (B, S, C) by weights (C, Q + K + V), then scores and the weighted sum."""
    rows, (inside, outside), made = prod(x[0][:2]), x[1], y[0][-1]
    keys = y[1][3] if len(y) > 1 and y[1] else x[0][1]
    return rows * (inside * outside + ((outside - made) // 2 + made) * keys)


@counts(
    "ai.onnx.ml:LinearRegressor", "ai.onnx.ml:LinearClassifier", "ai.onnx.ml:SVMRegressor", "ai.onnx.ml:SVMClassifier"
)
def learner(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Each row of x (N, F) or (F) meets all support vectors, or all coefficients where there are none."""
    held = attribute(node, "support_vectors", None) or attribute(node, "coefficients", [])
    return prod(x[0][:-1]) * len(held)


@counts("Einsum")
def einsum(node: onnx.NodeProto, x: Sequence[Dims], y: Sequence[Dims]) -> int:
    """Operands are multiplied from left to right; axes that nobody needs any more are summed on the way."""
    terms, output = parse_equation(str(attribute(node, "equation")), [len(dims) for dims in x])
    sizes: dict[str, int] = {}
    for term, dims in zip(terms, x, strict=True):
        for label, size in zip(term, dims, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))  # of two sizes one is 1 and broadcasts
    total = 0
    done = set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        done |= set(term)
        total += prod(sizes[label] for label in done)
        done &= set(output).union(*terms[position + 1 :])
    return total


def parse_equation(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of every operand and of the output; axes under an ellipsis get capital Greek letters of their own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = max(
        (rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0
    )
    ellipsis = "".join(chr(0x391 + i) for i in range(hidden))
    spelled = []
    for term, rank in zip(terms, ranks, strict=True):
        width = rank - len(term.replace("...", ""))
        spelled.append(term.replace("...", ellipsis[len(ellipsis) - width :] if width else ""))
    if not arrow:
        letters = "".join(spelled)
        right = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in ellipsis))
    return spelled, right.replace("...", ellipsis)
