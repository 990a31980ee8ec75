"""What takes axes together: sums, means, products, extremes, soft maxima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..loops import c, index, literal, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor

_TAKE = {
    "sum": ("0", "a += $v;", "a"),
    "mean": ("0", "a += $v;", "a / $n"),
    "product": ("1", "a *= $v;", "a"),
    "max": ("$least", "if ($v > a) a = $v;", "a"),
    "min": ("$most", "if ($v < a) a = $v;", "a"),
    "l1": ("0", "a += $v < 0 ? -$v : $v;", "a"),
    "l2": ("0", "a += $v * $v;", "sqrtf(a)"),
    "squares": ("0", "a += $v * $v;", "a"),
    "logsum": ("0", "a += $v;", "logf(a)"),
    "logsumexp": ("0", "a += expf($v);", "logf(a)"),
}
"""Where each reduction starts, what it does with a number, and what it makes of the result."""


def _register(key: str, how: str) -> None:
    @rule(key)
    def reduce(call: Call) -> None:
        rank = len(call.x(0).dims)
        axes = call.ints(1, "axes", None)
        if not axes and call.attr("noop_with_empty_axes", 0):
            call.alias(call.x(0)) if not call.is_output[0] else reduced(call, how, [], True)
            return
        reduced(call, how, [a % rank for a in axes or range(rank)], bool(call.attr("keepdims", 1)))


for _key, _how in (
    ("ReduceSum", "sum"),
    ("ReduceMean", "mean"),
    ("ReduceProd", "product"),
    ("ReduceMax", "max"),
    ("ReduceMin", "min"),
    ("ReduceL1", "l1"),
    ("ReduceL2", "l2"),
    ("ReduceSumSquare", "squares"),
    ("ReduceLogSum", "logsum"),
    ("ReduceLogSumExp", "logsumexp"),
):
    _register(_key, _how)


def reduced(call: Call, how: str, axes: Sequence[int], keep: bool) -> None:
    x = call.x(0)
    if x.size == 0:
        raise Unsupported("there are no numbers in it")
    y = call.output()
    strides = list(y.strides)
    if not keep:
        for axis in sorted(axes):
            strides.insert(axis, 0)
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.dims))
    target = replace(y, dims=kept, strides=tuple(strides))
    outer = replace(x, dims=kept)
    inner = replace(
        x,
        dims=tuple(n for a, n in enumerate(x.dims) if a in axes),
        strides=tuple(s for a, s in enumerate(x.strides) if a in axes),
    )
    call.step(nest([target, outer], lambda i: _sum(call, how, x, inner, i)), [x], [y])


def _sum(call: Call, how: str, x: Tensor, inner: Tensor, at: Sequence[str]) -> str:
    start, take, value = _TAKE[how]
    least, most = ("-INFINITY", "INFINITY") if x.dtype.kind == "f" else _limits(x.dtype)
    loops = nest([inner], lambda j: take.replace("$v", f"r[{j[0]}]"), "j")
    return c(
        """
        const $t *r = x0 + $at;
        $t a = $start;
        $loops
        y0[$to] = $value;
        """,
        t=x.ctype,
        at=at[1],
        start=start.replace("$least", least).replace("$most", most),
        loops=loops,
        to=at[0],
        value=value.replace("$n", str(inner.size)),
    )


def _limits(dtype: np.dtype) -> tuple[str, str]:
    if dtype.kind == "b":
        return "0", "1"
    return literal(np.iinfo(dtype).min, dtype), literal(np.iinfo(dtype).max, dtype)


@rule("Softmax", "LogSoftmax")
def softmax(call: Call) -> None:
    x = call.x(0)
    y = call.like(x)
    axis = call.axis(x, -1)
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.dims))
    log = call.operation.key == "LogSoftmax"
    first = "y[$b] = v;" if log else "y[$b] = e;"
    last = "y[$b] -= most + total;" if log else "y[$b] *= total;"
    n, a, b = x.dims[axis], index([("k", x.strides[axis])]), index([("k", y.strides[axis])])

    def body(at: Sequence[str]) -> str:
        return c(
            """
            const float *x = x0 + $from;
            float *y = y0 + $to;
            float most = x[0], total = 0;
            for (int k = 1; k < $n; k++) most = x[$a] > most ? x[$a] : most;
            for (int k = 0; k < $n; k++) {
                const float v = x[$a], e = net_exp(v - most);
                total += e;
                $first
            }
            total = $last_total;
            for (int k = 0; k < $n; k++) $last
            """,
            to=at[0],
            n=n,
            a=a,
            first=first.replace("$b", b),
            last=last.replace("$b", b),
            last_total="logf(total)" if log else "1.0f / total",
            **{"from": at[1]},
        )

    call.step(nest([replace(y, dims=kept), replace(x, dims=kept)], body), [x], [y], in_place=True)


@rule("ArgMax", "ArgMin")
def extreme(call: Call) -> None:
    x = call.x(0)
    axis = call.axis(x, 0)
    y = call.output()
    strides = list(y.strides)
    if not call.attr("keepdims", 1):
        strides.insert(axis, 0)
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.dims))
    sign = ("<" if call.operation.key == "ArgMin" else ">") + ("=" if call.attr("select_last_index", 0) else "")
    step = x.strides[axis]

    def body(at: Sequence[str]) -> str:
        return c(
            """
            int best = 0;
            for (int k = 1; k < $n; k++) if (x0[$at + k * $step] $sign x0[$at + best * $step]) best = k;
            y0[$to] = best;
            """,
            n=x.dims[axis],
            at=at[1],
            step=step,
            sign=sign,
            to=at[0],
        )

    call.step(nest([replace(y, dims=kept, strides=tuple(strides)), replace(x, dims=kept)], body), [x], [y])
