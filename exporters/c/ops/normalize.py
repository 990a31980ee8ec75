"""What divides numbers by a deviation or a length that it finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..loops import c, literal, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor


@rule("LayerNormalization")
def layer(call: Call) -> None:
    if len(call.dims) > 1:
        raise Unsupported("mean or deviation are asked for")
    x = call.x(0)
    axes = range(call.axis(x, -1), len(x.dims))
    _normalized(call, x, call.like(x), axes, [call.x(k) for k in (1, 2) if call.has(k)])


@rule("RMSNormalization", "SimplifiedLayerNormalization")
def root_mean_square(call: Call) -> None:
    x = call.x(0)
    axes = range(call.axis(x, -1), len(x.dims))
    _normalized(call, x, call.like(x), axes, [call.x(1)], centred=False)


@rule("InstanceNormalization")
def instance(call: Call) -> None:
    x = call.x(0)
    _normalized(call, x, call.like(x), range(2, len(x.dims)), [_channels(call.x(k), len(x.dims) - 2) for k in (1, 2)])


@rule("GroupNormalization")
def group(call: Call) -> None:
    x, groups = call.x(0), call.attr("num_groups")
    y = call.like(x)
    scales = [_channels(call.x(k), len(x.dims) - 2) for k in (1, 2)]
    if call.opset >= 21:
        scales = [_split(scale, 0, groups) for scale in scales]
    else:
        scales = [
            replace(s, dims=(s.dims[0], 1, *s.dims[1:]), strides=(s.strides[0], 0, *s.strides[1:])) for s in scales
        ]
    _normalized(call, _split(x, 1, groups), y, range(2, len(x.dims) + 1), scales, view=_split(y, 1, groups))


def _channels(tensor: Tensor, behind: int) -> Tensor:
    """A number for each channel, as it stretches over what lies behind."""
    return replace(tensor, dims=(tensor.size, *[1] * behind), strides=(tensor.strides[0], *[0] * behind))


def _split(tensor: Tensor, axis: int, parts: int) -> Tensor:
    """An axis as parts and what is in each."""
    each, step = tensor.dims[axis] // parts, tensor.strides[axis]
    dims = (*tensor.dims[:axis], parts, each, *tensor.dims[axis + 1 :])
    return replace(tensor, dims=dims, strides=(*tensor.strides[:axis], step * each, step, *tensor.strides[axis + 1 :]))


def _normalized(
    call: Call,
    x: Tensor,
    y: Tensor,
    axes: Sequence[int],
    scales: Sequence[Tensor],
    centred: bool = True,
    view: Tensor | None = None,
) -> None:
    whole = [view or y, x, *(s.broadcast(x.dims) for s in scales)]
    outer = [replace(t, dims=tuple(1 if a in axes else n for a, n in enumerate(x.dims))) for t in whole]
    inner = [replace(t, dims=tuple(t.dims[a] for a in axes), strides=tuple(t.strides[a] for a in axes)) for t in whole]
    epsilon = literal(call.attr("epsilon", 1e-5), np.dtype("f4"))

    def body(at: Sequence[str]) -> str:
        def last(j: Sequence[str]) -> str:
            factor = f" * x1[{at[2]} + {j[2]}]" if scales else ""
            shift = f" + x2[{at[3]} + {j[3]}]" if len(scales) > 1 else ""
            return f"y0[{at[0]} + {j[0]}] = (x0[{at[1]} + {j[1]}] - mean) * factor{factor}{shift};"

        return c(
            """
            float mean = 0, squares = 0, factor;
            $mean
            $squares
            factor = 1.0f / sqrtf(squares / $n + $epsilon);
            $last
            """,
            mean=nest([inner[1]], lambda j: f"mean += x0[{at[1]} + {j[0]}] / {inner[1].size};", "j") if centred else "",
            squares=nest(
                [inner[1]], lambda j: f"squares += (x0[{at[1]} + {j[0]}] - mean) * (x0[{at[1]} + {j[0]}] - mean);", "j"
            ),
            n=inner[1].size,
            epsilon=epsilon,
            last=nest(inner, last, "j"),
        )

    call.step(nest(outer, body), [x, *scales], [y])


@rule("LpNormalization")
def length(call: Call) -> None:
    x = call.x(0)
    y = call.like(x)
    axis, power = call.axis(x, -1), call.attr("p", 2)
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.dims))

    def body(at: Sequence[str]) -> str:
        v = f"x0[{at[1]} + k * {x.strides[axis]}]"
        return c(
            """
            float total = 0;
            for (int k = 0; k < $n; k++) total += $take;
            $root
            for (int k = 0; k < $n; k++) y0[$to + k * $step] = total == 0 ? 0 : $v / total;
            """,
            n=x.dims[axis],
            take=f"{v} * {v}" if power == 2 else f"fabsf({v})",
            root="total = sqrtf(total);" if power == 2 else "",
            to=at[0],
            step=y.strides[axis],
            v=v,
        )

    call.step(nest([replace(y, dims=kept), replace(x, dims=kept)], body), [x], [y])


@rule("LRN")
def response(call: Call) -> None:
    x = call.x(0)
    y = call.like(x)
    size, f4 = call.attr("size"), np.dtype("f4")
    alpha, beta, bias = (literal(call.attr(n, d), f4) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    kept = (x.dims[0], 1, *x.dims[2:])

    def body(at: Sequence[str]) -> str:
        return c(
            """
            for (int k = 0; k < $n; k++) {
                const int first = k < $before ? 0 : k - $before;
                const int last = k + $after < $n ? k + $after : $n - 1;
                float total = 0;
                for (int j = first; j <= last; j++) total += x0[$at + j * $step] * x0[$at + j * $step];
                y0[$to + k * $down] = x0[$at + k * $step] / powf($bias + $alpha / $size * total, $beta);
            }
            """,
            n=x.dims[1],
            before=(size - 1) // 2,
            after=size - 1 - (size - 1) // 2,
            at=at[1],
            step=x.strides[1],
            to=at[0],
            down=y.strides[1],
            bias=bias,
            alpha=alpha,
            beta=beta,
            size=size,
        )

    call.step(nest([replace(y, dims=kept), replace(x, dims=kept)], body), [x], [y])
