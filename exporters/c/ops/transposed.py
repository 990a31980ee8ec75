"""Transposed convolutions: each number of the input is spread over the output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..loops import c, index, nest
from ..rules import Call, rule
from ..tensor import Tensor
from .convolution import image, output_image, samples, window

_SPREAD = """
$start
for (int iy = 0; iy < $rows; iy++) {
    for (int ix = 0; ix < $columns; ix++) {
        for (int ky = 0; ky < $tall; ky++) {
            const int oy = iy * $down + ky * $far - $top;
            if (oy < 0 || oy >= $height) continue;
            for (int kx = 0; kx < $broad; kx++) {
                const int ox = ix * $across + kx * $wide - $left;
                if (ox < 0 || ox >= $length) continue;
                for (int g = 0; g < $groups; g++) {
                    for (int k = 0; k < $inner; k++) {
                        const $t v = x[$from];
                        const $t *w = $table + (((g * $inner + k) * $tall + ky) * $broad + kx) * $each;
                        for (int o = 0; o < $each; o++) y[$to] += v * w[o];
                    }
                }
            }
        }
    }
}
$finish
"""
"""Every number of the input times its weights, added to the output."""


@rule("ConvTranspose", finishes=True)
def transposed(call: Call) -> None:
    x, weight = image(call.x(0)), call.constant(1, "its weight")
    y, out = output_image(call)
    kernel = weight.shape[2:]
    weight = weight if weight.ndim == 4 else weight[:, :, None]
    w = window(call, out, x, kernel)  # what a convolution back would be
    group = call.attr("group", 1)
    each, inner = weight.shape[1], weight.shape[0] // group
    bias = call.constant(2, "its bias") if call.has(2) else np.zeros(each * group, weight.dtype)
    along = Tensor(call.program.table(bias), bias.dtype, (1, *out.dims[1:]), (0, 1, 0, 0))
    before, value = call.finished("v", out.ctype)
    whole = replace(out, dims=(1, *out.dims[1:]))
    lead = f"g * {each} + " if group > 1 else ""
    body = c(
        _SPREAD,
        start=nest([whole, along], lambda i: f"y[{i[0]}] = {along.buffer}[{i[1]}];"),
        **w.words,
        groups=group,
        inner=inner,
        each=each,
        t=x.ctype,
        table=call.program.table(weight.transpose(0, 2, 3, 1)),
        to=index([("oy", out.stride(2)), ("ox", out.stride(3)), (f"({lead}o)", out.stride(1))]),
        finish=nest([whole], lambda i: f"const {out.ctype} v = y[{i[0]}];\n{before}\ny[{i[0]}] = {value};")
        if call.operation.then
        else "",
        **{"from": index([("iy", x.stride(2)), ("ix", x.stride(3)), (f"(g * {inner} + k)", x.stride(1))])},
    )
    call.step(samples(body, x, out), [call.x(0)], [y])
