"""Products of matrices: with weights that are known in the tiles of convolutions, in integers too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..loops import c, index, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor
from .ending import Ending, byte_zero, of_codes
from .tiles import Tiles, code_tiles, float_tiles, packed


@rule("Gemm", finishes=True)
def gemm(call: Call) -> None:
    x, transposed = call.x(0), call.attr("transB", 0)
    if call.attr("transA", 0):
        x = replace(x, dims=x.dims[::-1], strides=x.strides[::-1])
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    bias = call.constant(2, "its bias") if call.has(2) else None
    if bias is not None and (bias.ndim > 1 and bias.shape[0] != 1):
        raise Unsupported("its bias is a matrix")
    weight = call.constant(1, "its weight")
    weight = weight.T if transposed else weight
    if alpha != 1:
        weight = weight * np.asarray(alpha, weight.dtype)
    if bias is not None and beta != 1:
        bias = bias * np.asarray(beta, bias.dtype)
    y = call.output()
    known(call, x, weight, None if bias is None else np.broadcast_to(bias.reshape(-1), weight.shape[1:]), y)


@rule("MatMul", finishes=True)
def matmul(call: Call) -> None:
    name, bias = call.operation.inputs[1], call.operation.bias
    value = call.program.constants.get(name)
    if value is not None and value.ndim == 2:
        y = call.output()
        x = call.x(0)
        if len(x.dims) == 1:
            x, view = (
                replace(x, dims=(1, *x.dims), strides=(0, *x.strides)),
                replace(y, dims=(1, *y.dims), strides=(0, *y.strides)),
            )
        else:
            view = y
        added = call.program.constants[bias].reshape(-1) if bias else None
        known(call, x, value, added, y, view)
        return
    both(call, bias)


def known(
    call: Call, x: Tensor, weight: np.ndarray, bias: np.ndarray | None, y: Tensor, view: Tensor | None = None
) -> None:
    """Rows of ``x`` times a matrix (inputs, outputs)."""
    codes = bool(call.operation.codes)
    scratch: list[tuple[str, int]] = []
    ready = x if len(x.dims) == 2 else merged(x)
    if ready is None or (codes and (ready.dtype == np.int8 or weight.shape[0] % 4 or ready.stride(1) not in (0, 1))):
        ready = merged(call.dense(x)) if not codes else None
    out = merged(view or y)
    assert out is not None
    rows = out.dims[0]
    if codes:
        ending = of_codes(call, weight.astype(np.int32).sum(axis=0), bias)
    else:
        ending = Ending(call, np.zeros(weight.shape[1], weight.dtype) if bias is None else bias)
    before = ""
    if ready is None:
        before, row, step, scratch = _bytes(call, x)
    else:
        row, step = "x0", ready.stride(0)
    laid = packed(weight) if codes else weight

    def store(at: str, column: str, value: str) -> str:
        return ending.store(f"y0[{index([(at, out.stride(0)), (column, out.stride(1))])}]", column, value)

    table = call.program.table(laid)
    tiles = Tiles(rows, step, weight.shape[1], "", row, table, weight.shape[0], store)
    start = f"const {'int32_t' if codes else x.ctype} *b = {call.program.table(ending.start)};"
    text = code_tiles(tiles) if codes else float_tiles(tiles, x.ctype, 1 if ready is None else ready.stride(1))
    call.step("\n".join(filter(None, (start, before, text))), [x if ready is None else ready], [y], scratch)


def merged(tensor: Tensor) -> Tensor | None:
    """As a matrix, if rows are evenly apart."""
    *lead, _ = tensor.dims
    return tensor.view(tensor.positions().reshape(int(np.prod(lead, dtype=np.int64)), -1))


def _bytes(call: Call, x: Tensor) -> tuple[str, str, int, list[tuple[str, int]]]:
    """Rows of codes that lie otherwise: copied, and signed ones moved up."""
    rows, length = int(np.prod(x.dims[:-1], dtype=np.int64)), x.dims[-1]
    step = -(-length // 4) * 4
    flip = " ^ 0x80" if x.dtype == np.int8 else ""
    steps = [step] if len(x.dims) > 1 else []
    for n in x.dims[-2:0:-1]:
        steps.insert(0, steps[0] * n)
    target = replace(x, strides=(*steps, 1), offset=0)
    fill = f"for (int i = 0; i < {rows * step}; i++) s0[i] = {byte_zero(call)};\n" if step > length else ""
    copy = nest([target, x], lambda i: f"s0[{i[0]}] = (uint8_t)(x0[{i[1]}]{flip});")
    return fill + copy, "s0", step, [("uint8_t", rows * step)]


def both(call: Call, bias: str) -> None:
    """Two operands that are computed, or stacks of matrices; whatever is in front stretches."""
    if call.operation.codes:
        integers(call, bias)
        return
    a, b = call.x(0), call.x(1)
    if len(a.dims) < 2 or len(b.dims) < 2:
        raise Unsupported("one operand has one axis")
    if b.stride(len(b.dims) - 1) not in (0, 1):
        order = [*(n for n in b.order if n < len(b.dims) - 2), len(b.dims) - 2, len(b.dims) - 1]
        b = call.copied(b, order)
    y = call.output()
    lead = y.dims[:-2]
    left, right = a.broadcast((*lead, *a.dims[-2:])), b.broadcast((*lead, *b.dims[-2:]))
    added = call.program.constants[bias].reshape(-1) if bias else np.zeros(y.dims[-1], a.dtype)
    ending = Ending(call, added)
    at = [f"n{k}" for k in range(len(lead))]
    place = index(list(zip(at, y.strides, strict=False)))

    def store(row: str, column: str, value: str) -> str:
        return ending.store(f"y0[{place} + {index([(row, y.stride(len(lead))), (column, 1)])}]", column, value)

    rank = len(lead)
    tiles = Tiles(
        y.dims[-2],
        left.stride(rank),
        y.dims[-1],
        "",
        f"x0 + {index(list(zip(at, left.strides, strict=False)))}",
        f"x1 + {index(list(zip(at, right.strides, strict=False)))}",
        a.dims[-1],
        store,
    )
    text = float_tiles(tiles, a.ctype, left.stride(rank + 1), right.stride(rank))
    text = f"const {a.ctype} *b = {call.program.table(ending.start)};\n{text}"
    for k, n in reversed(list(enumerate(lead))):
        text = c("for (int $v = 0; $v < $n; $v++) {\n    $text\n}", v=f"n{k}", n=n, text=text)
    call.step(text, [a, b], [y])


def integers(call: Call, bias: str) -> None:
    """Codes times codes, both computed."""
    a, b = call.x(0), call.x(1)
    y = call.output()
    lead = y.dims[:-2]
    left, right = a.broadcast((*lead, *a.dims[-2:])), b.broadcast((*lead, *b.dims[-2:]))
    first, second = call.operation.codes[0], call.operation.codes[1]
    added = call.program.constants[bias].reshape(-1).astype(np.float64) if bias else None
    ending = Ending(call, np.zeros(1, np.int32), (first.scale * second.scale).reshape(-1).astype(np.float32), added)
    rank = len(lead)
    at = [f"n{k}" for k in range(rank)]
    text = c(
        """
        int32_t sum = 0;
        for (int k = 0; k < $length; k++) sum += (x0[$left] - $first) * (x1[$right] - $second);
        $store
        """,
        length=a.dims[-1],
        first=first.zero,
        second=second.zero,
        left=index(list(zip([*at, "i", "k"], left.strides, strict=True))),
        right=index(list(zip([*at, "k", "j"], right.strides, strict=True))),
        store=ending.store(f"y0[{index(list(zip([*at, 'i', 'j'], y.strides, strict=True)))}]", "j", "sum"),
    )
    for v, n in reversed([*zip(at, lead, strict=True), ("i", y.dims[-2]), ("j", y.dims[-1])]):
        text = c("for (int $v = 0; $v < $n; $v++) {\n    $text\n}", v=v, n=n, text=text)
    call.step(text, [a, b], [y])
