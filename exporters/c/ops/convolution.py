"""Convolutions: rows of the input, padded, go through a ring of a few rows, which tiles read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..loops import c, index, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor
from .ending import Ending, byte_zero, of_codes
from .tiles import LANES, Store, Tiles, channel_tiles, code_tiles, float_tiles, packed


@dataclass(frozen=True)
class Window:
    """What slides over an image: sizes down and across."""

    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    begins: tuple[int, int]

    @property
    def reach(self) -> int:
        """Rows of the input that one row of the output reads, those in between too."""
        return (self.kernel[0] - 1) * self.dilations[0] + 1

    @property
    def width(self) -> int:
        """Of a padded row, in pixels."""
        return (self.out[1] - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1

    @property
    def words(self) -> dict[str, int]:
        """Its numbers by the names that loops give them."""
        return {
            **dict(zip(("rows", "columns"), self.out, strict=True)),
            **dict(zip(("tall", "broad"), self.kernel, strict=True)),
            **dict(zip(("down", "across"), self.strides, strict=True)),
            **dict(zip(("far", "wide"), self.dilations, strict=True)),
            **dict(zip(("top", "left"), self.begins, strict=True)),
            **dict(zip(("height", "length"), self.size, strict=True)),
        }

    @property
    def stays_inside(self) -> bool:
        fits = (self.out[0] - 1) * self.strides[0] + self.reach <= self.size[0] and self.width <= self.size[1]
        return self.begins == (0, 0) and fits


def image(tensor: Tensor) -> Tensor:
    """As (N, C, H, W): signals have one row."""
    if len(tensor.dims) == 4:
        return tensor
    if len(tensor.dims) != 3:
        raise Unsupported(f"it works on {len(tensor.dims) - 2} axes")
    (n, channels, length), (a, b, d) = tensor.dims, tensor.strides
    return replace(tensor, dims=(n, channels, 1, length), strides=(a, b, length * d, d))


def window(call: Call, x: Tensor, y: Tensor, kernel: Sequence[int]) -> Window:
    """Of a node's attributes; ``kernel`` has as many lengths as there are axes."""
    rank = len(kernel)

    def two(values: Sequence[int] | None, default: int) -> tuple[int, int]:
        found = list(values or [default] * rank)
        return (found[0], found[1]) if rank == 2 else (default, found[0])

    size, out, tall = (x.dims[2], x.dims[3]), (y.dims[2], y.dims[3]), two(kernel, 1)
    strides, dilations = two(call.attr("strides"), 1), two(call.attr("dilations"), 1)
    automatic = call.attr("auto_pad", "NOTSET")
    begins = two((call.attr("pads") or [])[:rank] if automatic == "NOTSET" else None, 0)
    if automatic.startswith("SAME"):
        total = [max(0, (out[a] - 1) * strides[a] + (tall[a] - 1) * dilations[a] + 1 - size[a]) for a in (0, 1)]
        up = automatic == "SAME_LOWER"
        begins = (total[0] + up) // 2, (total[1] + up) // 2
    return Window(size, out, tall, strides, dilations, begins)


def output_image(call: Call) -> tuple[Tensor, Tensor]:
    """The output with channels last, and the same as an image."""
    rank = len(call.dims[0])
    y = call.output(0, (0, *range(2, rank), 1))
    return y, image(y)


def samples(body: str, x: Tensor, y: Tensor) -> str:
    """A loop over samples, which are ``x`` and ``y`` in the body."""
    return c(
        """
        for (int n = 0; n < $count; n++) {
            const $a *x = x0 + n * $step;
            $b *y = y0 + n * $to;
            $body
        }
        """,
        count=x.dims[0],
        a=x.ctype,
        step=x.strides[0],
        b=y.ctype,
        to=y.strides[0],
        body=body,
    )


@rule("Conv", finishes=True)
def convolution(call: Call) -> None:
    x, weight = image(call.x(0)), call.constant(1, "its weight")
    y, out = output_image(call)
    kernel = weight.shape[2:]
    weight = weight if weight.ndim == 4 else weight[:, :, None]
    bias = call.constant(2, "its bias") if call.has(2) else None
    if call.operation.codes:
        ending = of_codes(call, weight.astype(np.int32).sum(axis=(1, 2, 3)), bias)
    else:
        ending = Ending(call, np.zeros(len(weight), weight.dtype) if bias is None else bias)
    one = Convolution(call, window(call, x, out, kernel), x, out, weight, ending)
    scratch = [] if one.is_ready else [(one.ctype, one.window.reach * one.length)]
    call.step(samples(one.rows(), x, out), [call.x(0)], [y], scratch)


@dataclass(frozen=True)
class Convolution:
    """One layer: rows of ``length`` numbers are padded in a ring, unless they can be read where they are."""

    call: Call
    window: Window
    x: Tensor
    y: Tensor
    weight: np.ndarray
    ending: Ending

    @property
    def codes(self) -> bool:
        return bool(self.call.operation.codes)

    @property
    def ctype(self) -> str:
        return "uint8_t" if self.codes else self.x.ctype

    @property
    def channels(self) -> int:
        return self.x.dims[1]

    @cached_property
    def group(self) -> int:
        return int(self.call.attr("group", 1))

    @property
    def is_depthwise(self) -> bool:
        return self.group == self.channels == len(self.weight) and self.group > 1

    @property
    def is_whole(self) -> bool:
        """Whether all that a window covers in a row lies together."""
        return self.group == 1 and self.window.dilations[1] == 1

    @property
    def length(self) -> int:
        return self.window.width * self.channels + (LANES if self.codes else 0)

    @property
    def is_ready(self) -> bool:
        run = self.channels // self.group * (self.window.kernel[1] if self.is_whole else 1)
        bytes_fit = not self.codes or (self.x.dtype == np.uint8 and (run % 4 == 0 or self.is_depthwise))
        together = self.x.stride(1) in (0, 1) and (self.x.strides[3] == self.channels or self.x.dims[3] == 1)
        return self.window.stays_inside and together and bytes_fit

    def rows(self) -> str:
        w, down = self.window, self.x.strides[2]
        if self.is_ready:
            row = f"x + oy * {w.strides[0] * down} + ky * {w.dilations[0] * down}"
            return c("for (int oy = 0; oy < $rows; oy++) {\n    $tiles\n}", rows=w.out[0], tiles=self.tiles(row))
        row = f"s0 + (oy * {w.strides[0]} + ky * {w.dilations[0]}) % {w.reach} * {self.length}"
        return c(
            """
            int next = 0;
            for (int oy = 0; oy < $rows; oy++) {
                $fill
                $tiles
            }
            """,
            rows=w.out[0],
            fill=self.fill(),
            tiles=self.tiles(row),
        )

    def fill(self) -> str:
        """The rows of the input that come next go into the ring, padded."""
        w, x, channels = self.window, self.x, self.channels
        flip = " ^ 0x80" if self.codes and x.dtype == np.int8 else ""
        left, zero = w.begins[1], byte_zero(self.call) if self.codes else 0
        inside = max(0, min(w.size[1], w.width - left))
        source = replace(x, dims=(inside, channels), strides=(x.strides[3], x.strides[1]))
        target = replace(x, dims=(inside, channels), strides=(channels, 1))
        edges = [(0, left * channels), ((left + inside) * channels, self.length)]
        return c(
            """
            for (; next < oy * $stride + $reach; next++) {
                const int iy = next - $top;
                $t *r = s0 + next % $reach * $length;
                if (iy < 0 || iy >= $height) {
                    for (int i = 0; i < $length; i++) r[i] = $zero;
                } else {
                    const $x *in = x + iy * $down;
                    $edges
                    $copy
                }
            }
            """,
            stride=w.strides[0],
            reach=w.reach,
            top=w.begins[0],
            t=self.ctype,
            x=x.ctype,
            length=self.length,
            height=w.size[0],
            zero=zero,
            down=x.strides[2],
            edges="\n".join(f"for (int i = {a}; i < {b}; i++) r[i] = {zero};" for a, b in edges if b > a),
            copy=nest([target, source], lambda i: f"r[{left * channels} + {i[0]}] = ({self.ctype})(in[{i[1]}]{flip});"),
        )

    def tiles(self, row: str) -> str:
        groups = 1 if self.is_depthwise else self.group
        each = len(self.weight) // groups
        lead = f"g * {each} + " if groups > 1 else ""

        def store(pixel: str, column: str, value: str) -> str:
            at = index([("oy", self.y.stride(2)), (pixel, self.y.stride(3)), (f"({lead}{column})", self.y.stride(1))])
            return self.ending.store(f"y[{at}]", f"{lead}{column}", value)

        kind = "int32_t" if self.codes else self.ctype
        table = self.call.program.table(self.ending.start) + (f" + g * {each}" if groups > 1 else "")
        start = f"const {kind} *b = {table};"
        text = self.by_channel(row, store) if self.is_depthwise else self.by_group(row, store)
        if groups == 1:
            return f"{start}\n{text}"
        return c("for (int g = 0; g < $n; g++) {\n    $start\n    $text\n}", n=groups, start=start, text=text)

    def by_group(self, row: str, store: Store) -> str:
        w, inner = self.window, self.channels // self.group
        taps = self.weight.reshape(self.group, -1, *self.weight.shape[1:]).transpose(0, 3, 4, 2, 1)
        across = 1 if self.is_whole else w.kernel[1]
        runs = taps.reshape(self.group, w.kernel[0], across, -1, taps.shape[-1])
        laid = packed(runs) if self.codes else runs
        table, size = self.call.program.table(laid), laid[0, 0, 0].size
        terms = [("ky", across * size), ("kx", size if across > 1 else 0), ("g", laid[0].size if self.group > 1 else 0)]
        steps = [("kx", w.dilations[1] * self.channels if across > 1 else 0), ("g", inner if self.group > 1 else 0)]
        tiles = Tiles(
            w.out[1],
            w.strides[1] * self.channels,
            taps.shape[-1],
            self.loops(across),
            f"{row} + {index(steps)}",
            f"{table} + {index(terms)}",
            runs.shape[3],
            store,
        )
        return code_tiles(tiles) if self.codes else float_tiles(tiles, self.ctype)

    def by_channel(self, row: str, store: Store) -> str:
        w, channels = self.window, self.channels
        table = self.call.program.table(self.weight.reshape(channels, -1).T)
        tiles = Tiles(
            w.out[1],
            w.strides[1] * channels,
            channels,
            self.loops(w.kernel[1]),
            f"{row} + {index([('kx', w.dilations[1] * channels if w.kernel[1] > 1 else 0)])}",
            f"{table} + {index([('ky', w.kernel[1] * channels), ('kx', channels if w.kernel[1] > 1 else 0)])}",
            1,
            store,
        )
        types = ("uint8_t", "int32_t", "int8_t") if self.codes else (self.ctype,) * 3
        return channel_tiles(tiles, types)

    def loops(self, across: int) -> str:
        down = f"for (int ky = 0; ky < {self.window.kernel[0]}; ky++)"
        return f"{down} for (int kx = 0; kx < {across}; kx++)" if across > 1 else down
