"""Largest numbers and means of windows."""

from __future__ import annotations

import numpy as np

from ..loops import c, index, literal
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor
from .convolution import Window, image, output_image, samples, window
from .ending import Ending
from .reduce import reduced


@rule("MaxPool", finishes=True)
def max_pool(call: Call) -> None:
    if len(call.operation.outputs) > 1 and call.operation.outputs[1]:
        raise Unsupported("its places are asked for")
    x = image(call.x(0))
    y, out = output_image(call)
    w = window(call, x, out, call.attr("kernel_shape"))
    least = "-INFINITY" if x.dtype.kind == "f" else literal(np.iinfo(x.dtype).min, x.dtype)
    before, value = call.finished("a[i]", x.ctype)
    text = f"{before}\ny[{_place(out)}] = {value};"
    body = _windows(w, x, out, x.ctype, least, "if (v > a[i]) a[i] = v;", text)
    call.step(samples(body, x, out), [call.x(0)], [y])


@rule("GlobalMaxPool")
def global_max_pool(call: Call) -> None:
    reduced(call, "max", list(range(2, len(call.x(0).dims))), True)


@rule("AveragePool", finishes=True)
def average_pool(call: Call) -> None:
    x = image(call.x(0))
    y, out = output_image(call)
    w = window(call, x, out, call.attr("kernel_shape"))
    ends = [0, 0]
    if call.attr("count_include_pad", 0):
        pads = call.attr("pads") or [0] * 4
        ends = pads[-2:] if len(pads) == 4 else [0, pads[-1]]
    _average(call, w, x, y, out, bool(call.attr("count_include_pad", 0)), ends)


@rule("GlobalAveragePool", finishes=True)
def global_average_pool(call: Call) -> None:
    x = call.x(0)
    if len(x.dims) not in (3, 4):
        raise Unsupported(f"it works on {len(x.dims) - 2} axes")
    y, out = output_image(call)
    x = image(x)
    size = x.dims[2], x.dims[3]
    _average(call, Window(size, (1, 1), size, (1, 1), (1, 1), (0, 0)), x, y, out, False, [0, 0])


def _average(call: Call, w: Window, x: Tensor, y: Tensor, out: Tensor, padded: bool, ends: list[int]) -> None:
    codes = call.operation.codes.get(0)
    kind = "int32_t" if codes else x.ctype
    count = _count(w, padded, ends)
    if codes:
        ending = Ending(call, np.zeros(1, np.int32), codes.scale.reshape(1).astype(np.float32))
        zero = f" - {codes.zero} * inside" if codes.zero else ""
        text = ending.store(f"y[{_place(out)}]", "0", f"(a[i]{zero}) / (float){count}")
    else:
        before, value = call.finished(f"a[i] / ({kind}){count}", x.ctype)
        text = f"{before}\ny[{_place(out)}] = {value};"
    body = _windows(w, x, out, kind, "0", "a[i] += v;", text)
    call.step(samples(body, x, out), [call.x(0)], [y])


def _count(w: Window, padded: bool, ends: list[int]) -> str:
    """By what a sum is divided: how many numbers a window covers, those of the padding too if they count."""
    if not padded:
        return "inside"
    sides = []
    for axis, v in enumerate(("oy", "ox")):
        reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1
        whole = w.size[axis] + w.begins[axis] + ends[axis]
        start = f"{v} * {w.strides[axis]}"
        left = f"({whole} - {start} + {w.dilations[axis] - 1}) / {w.dilations[axis]}"
        sides.append(f"({start} + {reach} > {whole} ? {left} : {w.kernel[axis]})")
    return f"({sides[0]} * {sides[1]})"


def _place(y: Tensor) -> str:
    return index([("oy", y.stride(2)), ("ox", y.stride(3)), ("(o + i)", y.stride(1))])


_WINDOWS = """
for (int oy = 0; oy < $rows; oy++) {
    for (int ox = 0; ox < $columns; ox++) {
        for (int o = 0; o < $channels; o += $width) {
            $kind a[$width];
            int inside = 0;
            for (int i = 0; i < $width; i++) a[i] = $start;
            for (int ky = 0; ky < $tall; ky++) {
                const int iy = oy * $down + ky * $far - $top;
                if (iy < 0 || iy >= $height) continue;
                for (int kx = 0; kx < $broad; kx++) {
                    const int ix = ox * $across + kx * $wide - $left;
                    if (ix < 0 || ix >= $length) continue;
                    inside++;
                    for (int i = 0; i < $width; i++) {
                        const $kind v = x[$place];
                        $take
                    }
                }
            }
            (void)inside;
            for (int i = 0; i < $width; i++) {
                $store
            }
        }
    }
}
"""
"""Loops over windows, within each over what is inside the image, for some channels at once."""


def _windows(w: Window, x: Tensor, y: Tensor, kind: str, start: str, take: str, store: str) -> str:
    """Loops over windows, within each over what is inside the image, for some channels at once."""
    channels = x.dims[1]
    width = next(n for n in (64, 32, 16, 8, 4, 2, 1) if channels % n == 0) if channels > 16 else channels
    place = index([("iy", x.stride(2)), ("ix", x.stride(3)), ("(o + i)", x.stride(1))])
    return c(
        _WINDOWS,
        **w.words,
        channels=channels,
        width=width,
        kind=kind,
        start=start,
        place=place,
        take=take,
        store=store,
    )
