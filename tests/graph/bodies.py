"""Small models with bodies, and inputs that take different ways through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx.parser import parse_model

Found = tuple[onnx.ModelProto, list[Mapping[str, np.ndarray]]]
_HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def _numbers(*shape: int, sign: float = 1.0, seed: int = 0) -> np.ndarray:
    return (sign * np.abs(np.random.default_rng(seed).normal(size=shape))).astype(np.float32)


def choice() -> Found:
    """Both branches make a tensor of the same name, one of a weight from around, one of its own."""
    model = parse_model(f"""{_HEAD} net (float[N, 4] x) => (float[N, 4] y)
    <float[4, 4] w = {{1, 2, 0, 1, 0, 1, 0, 3, 1, 0, 1, 0, 2, 0, 0, 1}}, float zero = {{0}}> {{
        s = ReduceSum <keepdims = 0> (x)
        c = Greater (s, zero)
        r = If (c) <
            then_branch = yes () => (float[N, 4] a) {{ h = MatMul (x, w) a = Relu (h) }},
            else_branch = no () => (float[N, 4] b)
            <float[4] own = {{0.5, 1, 2, 4}}> {{ h = Mul (x, own) b = Tanh (h) }}
        >
        y = Add (r, x)
    }}""")
    return model, [{"x": _numbers(3, 4)}, {"x": _numbers(3, 4, sign=-1)}]


def turns() -> Found:
    """As many turns as an input says, or until a state is large; a state, and what each turn makes."""
    model = parse_model(f"""{_HEAD} net (float[2, 3] x, int64 n) => (float[2, 3] last, float[T, 2, 3] all)
    <float[3, 3] w = {{0.9, 0.1, 0, 0, 1.1, 0.3, 0.2, 0, 1}}, bool on = {{1}}, float most = {{40}}> {{
        last, all = Loop (n, on, x) <
            body = turn (int64 i, bool c, float[2, 3] s) => (bool go, float[2, 3] t, float[2, 3] seen) {{
                k = Cast <to = 1> (i)
                m = MatMul (s, w)
                t = Add (m, k)
                seen = Neg (s)
                u = ReduceMax <keepdims = 0> (t)
                go = Less (u, most)
            }}
        >
    }}""")
    return model, [{"x": _numbers(2, 3), "n": np.array(n, np.int64)} for n in (1, 4, 100)]


def swapped() -> Found:
    """Two states that change places in every turn, in a loop in a loop."""
    inner = """Loop (three, , p, q) <
                    body = again (int64 j, bool d, float[2] e, float[2] f) => (bool d1, float[2] f1, float[2] e1) {
                        d1 = Identity (d) f1 = Add (f, p) e1 = Identity (e)
                    }
                >"""
    model = parse_model(f"""{_HEAD} net (float[2] a, float[2] b) => (float[2] y, float[2] z)
    <int64 three = {{3}}> {{
        y, z = Loop (three, , a, b) <
            body = turn (int64 i, bool c, float[2] p, float[2] q) => (bool c1, float[2] q1, float[2] p1) {{
                c1 = Identity (c)
                q1, p1 = {inner}
            }}
        >
    }}""")
    return model, [{"a": _numbers(2), "b": _numbers(2, seed=1)}]


def scanned() -> Found:
    """Over the second axis, backwards; what is made lies along another."""
    model = parse_model(f"""{_HEAD} net (float[2] h, float[2, 5] x) => (float[2] last, float[2, 5] y)
    {{
        last, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1],
            body = turn (float[2] s, float[2] e) => (float[2] t, float[2] u) {{
                m = Mul (s, e) t = Tanh (m) u = Add (t, e)
            }}
        > (h, x)
    }}""")
    return model, [{"h": _numbers(2), "x": _numbers(2, 5, seed=2)}]


BODIES: dict[str, Callable[[], Found]] = {"If": choice, "Loop": turns, "Loop in Loop": swapped, "Scan": scanned}
