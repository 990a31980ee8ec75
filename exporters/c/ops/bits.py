"""Operators on bits, of the domain ``intaglio``: exclusive or and counts of set bits, in 64-bit words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ....kernels.packing import packed_length, unpack
from ..loops import c, index, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor

_LANES = 32
Store = Callable[[str], str]


@rule("intaglio:BitPack")
def bit_pack(call: Call) -> None:
    x, threshold = call.x(0), call.x(1)
    perm = call.attr("perm")
    x = replace(x, dims=tuple(x.dims[a] for a in perm), strides=tuple(x.strides[a] for a in perm))
    y = call.output()
    count, step = x.dims[-1], threshold.stride(0)
    lead = [replace(t, dims=t.dims[:-1], strides=t.strides[:-1]) for t in (y, x)]

    def body(at: Sequence[str]) -> str:
        return c(
            """
            for (int k = 0; k < $bytes; k++) {
                unsigned bits = 0;
                const int n = $count - 8 * k < 8 ? $count - 8 * k : 8;
                for (int i = 0; i < n; i++) bits |= (unsigned)(x0[$at + (8 * k + i) * $step] < x1[(8 * k + i) * $by]) << i;
                y0[$to + k] = (uint8_t)bits;
            }
            """,
            bytes=packed_length(count),
            count=count,
            at=at[1],
            step=x.strides[-1],
            by=step,
            to=at[0],
        )

    call.step(nest(lead, body), [x, threshold], [y])


@rule("intaglio:BConv")
def to_floats(call: Call) -> None:
    y = call.output(0, (0, 2, 3, 1))
    scale, bias = (call.program.table(call.constant(k, "its scale or bias").astype(np.float32)) for k in (2, 3))
    place = index([("n", y.stride(0)), ("oy", y.stride(2)), ("ox", y.stride(3)), ("o", y.stride(1))])
    _convolution(call, y, y.dims[2:], lambda dot: f"y0[{place}] = (float)({dot}) * {scale}[o] + {bias}[o];")


@rule("intaglio:BConvBits")
def to_bits(call: Call) -> None:
    y = call.output()
    threshold = call.program.table(call.constant(2, "its threshold"))
    place = index([("n", y.stride(0)), ("oy", y.stride(1)), ("ox", y.stride(2))])
    _convolution(call, y, y.dims[1:3], _bits(f"y0[{place} + o / 8]", threshold))


def _bits(place: str, threshold: str) -> Store:
    return lambda dot: f"if (o % 8 == 0) {place} = 0;\n{place} |= (uint8_t)((({dot}) < {threshold}[o]) << (o % 8));"


def _convolution(call: Call, y: Tensor, out: Sequence[int], store: Store) -> None:
    x = call.dense(call.x(0))
    attributes = {name: call.attr(name) for name in ("channels", "kernel", "strides", "pads", "dilations", "group")}
    channels, group = attributes["channels"], attributes["group"] or 1
    if group > 1 and channels // group % 8:
        raise Unsupported("its groups are no whole bytes")
    kernel = attributes["kernel"]
    _products(call, x, y, out, attributes, kernel[0] * kernel[1], channels // group, store)


_WINDOWS = """
for (int n = 0; n < $samples; n++)
for (int oy = 0; oy < $rows; oy++)
for (int ox = 0; ox < $columns; ox++)
for (int first = 0; first < $outputs; first += $lanes) {
    const int last = first + $lanes < $ends ? first + $lanes : $ends;
    int32_t a[$lanes] = {0};
    int count = 0;
    for (int tap = 0; tap < $taps; tap++) {
        const int iy = oy * $down + tap / $broad * $far - $top, ix = ox * $across + tap % $broad * $wide - $left;
        uint64_t v[$words] = {0};
        if (iy < 0 || iy >= $height || ix < 0 || ix >= $length) {
            $outside
        } else {
            memcpy(v, x0 + ((n * $height + iy) * $length + ix) * $bytes + $begin, $row);
        }
        $mask
        count += $channels;
        for (int k = 0; k < $words; k++) {
            $sums
        }
    }
    for (int o = first; o < last; o++) {
        $store
    }
}
"""
"""Dot products of all windows."""


def _products(
    call: Call,
    x: Tensor,
    y: Tensor,
    out: Sequence[int],
    at: Mapping[str, Sequence[int]],
    taps: int,
    length: int,
    store: Store,
) -> None:
    """Dot products of windows: all taps that are inside, and those of the padding where it is no 0."""
    planes = call.constant(1, "its weight")
    group, pad = call.attr("group", 1) or 1, call.attr("pad_value", 1)
    outputs, words = planes.shape[1], -(-length // 64)
    table = call.program.table(_words(planes, taps, length, words))
    row = packed_length(length)
    outside = "continue;" if pad == 0 else f"memset(v, {0 if pad == 1 else 255}, {row});"
    body = c(
        _WINDOWS,
        samples=x.dims[0],
        rows=out[0],
        columns=out[1],
        outputs=outputs,
        lanes=min(_LANES, outputs // group),
        ends=outputs if group == 1 else f"(first / {outputs // group} + 1) * {outputs // group}",
        taps=taps,
        down=at["strides"][0],
        across=at["strides"][1],
        far=at["dilations"][0],
        wide=at["dilations"][1],
        top=at["pads"][0],
        left=at["pads"][1],
        broad=at["kernel"][1],
        words=words,
        height=x.dims[1],
        length=x.dims[2],
        bytes=x.dims[3],
        begin=f"first / {outputs // group} * {row}" if group > 1 else "0",
        row=row,
        outside=outside,
        mask=f"v[{words - 1}] &= UINT64_C({(1 << (length - 64 * (words - 1))) - 1});" if pad == -1 else "",
        channels=length,
        sums=_sums(len(planes), table, words, taps, outputs),
        store=store(f"count - {'2 * ' if len(planes) == 1 else ''}a[o - first]"),
    )
    call.step(body, [x], [y])


def _sums(planes: int, table: str, words: int, taps: int, outputs: int) -> str:
    lines = []
    for p in range(planes):
        at = f"(({p * taps} + tap) * {words} + k) * {outputs} + o"
        lines.append(f"for (int o = first; o < last; o++) a[o - first] += net_count(v[k] ^ {table}[{at}]);")
    return "\n".join(lines)


def _words(planes: np.ndarray, taps: int, length: int, words: int) -> np.ndarray:
    """Shapes: planes (P, O, bytes); result (P, taps, words, O) of 64 bits each, low bits first."""
    negative = np.asarray(unpack(planes, taps * length)) < 0
    full = np.zeros((*negative.shape[:2], taps, words * 64), bool)
    full[..., :length] = negative.reshape(*negative.shape[:2], taps, length)
    packed = np.packbits(full, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
    return packed.transpose(0, 2, 3, 1)


@rule("intaglio:BGemm", "intaglio:BGemmBits")
def rows(call: Call) -> None:
    """A matrix product is a convolution over an image of one column."""
    x, y = call.dense(call.x(0)), call.output()
    count = x.size // x.dims[-1]
    image = replace(x, dims=(1, count, 1, x.dims[-1]), strides=(x.size, x.dims[-1], x.dims[-1], 1))
    at = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0), "kernel": (1, 1)}
    if call.operation.key.endswith("Bits"):
        store = _bits(f"y0[oy * {y.dims[-1]} + o / 8]", call.program.table(call.constant(2, "its threshold")))
    else:
        scale, bias = (call.program.table(call.constant(k, "its scale or bias").astype(np.float32)) for k in (2, 3))

        def store(dot: str) -> str:
            return f"y0[oy * {y.dims[-1]} + o] = (float)({dot}) * {scale}[o] + {bias}[o];"

    _products(call, image, y, (count, 1), at, 1, call.attr("channels"), store)


@rule("intaglio:BMaxPool")
def max_pool(call: Call) -> None:
    x, y = call.dense(call.x(0)), call.output()
    kernel, strides, pads = (call.attr(name) for name in ("kernel", "strides", "pads"))
    body = c(
        """
        for (int n = 0; n < $samples; n++)
        for (int oy = 0; oy < $rows; oy++)
        for (int ox = 0; ox < $columns; ox++)
        for (int k = 0; k < $bytes; k++) {
            unsigned all = 255;
            for (int ky = 0; ky < $tall; ky++)
            for (int kx = 0; kx < $broad; kx++) {
                const int iy = oy * $down + ky - $top, ix = ox * $across + kx - $left;
                if (iy >= 0 && iy < $height && ix >= 0 && ix < $length) all &= x0[((n * $height + iy) * $length + ix) * $bytes + k];
            }
            y0[((n * $rows + oy) * $columns + ox) * $bytes + k] = (uint8_t)all;
        }
        """,
        samples=x.dims[0],
        rows=y.dims[1],
        columns=y.dims[2],
        bytes=x.dims[3],
        tall=kernel[0],
        broad=kernel[1],
        down=strides[0],
        across=strides[1],
        top=pads[0],
        left=pads[1],
        height=x.dims[1],
        length=x.dims[2],
    )
    call.step(body, [x], [y])


@rule("intaglio:MatMul1Bit", "intaglio:MatMul1BitInt8")
def real_rows(call: Call) -> None:
    """Numbers times signs, and a scale for each block of them."""
    x, y = call.dense(call.x(0)), call.output()
    planes, scale = call.constant(1, "its weight"), call.constant(2, "its scale")
    length, outputs, block = call.attr("channels"), planes.shape[1], call.attr("block")
    rounded = call.operation.key.endswith("Int8")
    body = c(
        """
        for (int r = 0; r < $rows; r++) {
            const float *x = x0 + r * $length;
            $prepare
            for (int o = 0; o < $outputs; o++) {
                float total = 0;
                for (int p = 0; p < $planes; p++) {
                    const uint8_t *w = $table + (p * $outputs + o) * $bytes;
                    for (int first = 0, b = 0; first < $length; first += $block, b++) {
                        const int last = first + $block < $length ? first + $block : $length;
                        $kind sum = 0;
                        for (int k = first; k < last; k++) sum += (w[k / 8] >> (k % 8) & 1) ? -$v[k] : $v[k];
                        total += (float)sum * $scale[(p * $outputs + o) * $blocks + b];
                    }
                }
                y0[r * $outputs + o] = total$step;
            }
        }
        """,
        rows=x.size // length,
        length=length,
        outputs=outputs,
        planes=len(planes),
        table=call.program.table(planes),
        bytes=planes.shape[-1],
        block=block,
        blocks=scale.shape[-1],
        scale=call.program.table(scale.astype(np.float32)),
        kind="int32_t" if rounded else "float",
        v="s0" if rounded else "x",
        step=" * (most / 127.0f)" if rounded else "",
        prepare=c(
            """
            float most = 0, by;
            for (int k = 0; k < $n; k++) most = fabsf(x[k]) > most ? fabsf(x[k]) : most;
            by = 127.0f / (most == 0 ? 1.0f : most);
            for (int k = 0; k < $n; k++) s0[k] = net_round(x[k] * by);
            """,
            n=length,
        )
        if rounded
        else "",
    )
    call.step(body, [x], [y], [("int32_t", length)] if rounded else [])
