"""Vectors as long as all that flows through a model take no memory where shapes are inferred.

onnx would note a length for each of their numbers, some 50 bytes each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

FREE, FIXED = "[B, C, H, W]", "[1000, 1000, 300]"
CHAIN = "b = Mul (a, a) c = Add (b, a) d = Sub (c, b) e = Cast <to = 1> (d) y = Concat <axis = 0> (e, e)"
FLAT = "f = Constant <value_ints = [-1]> () a = Reshape (x, f) "
BODY = f"{FLAT.replace('x, f', 'h, f')} b = Mul (a, a) c = Add (b, a) s = Shape (h) r = Reshape (c, s)"
MODELS = {
    "free sizes": f"(float{FREE} x) => (float[M] y) {{ {FLAT} {CHAIN} }}",
    "fixed sizes": f"(float{FIXED} x) => (float[M] y) {{ {FLAT} {CHAIN} }}",
    "integers": f"(int64{FREE} x) => (float[M] y) {{ {FLAT} {CHAIN} }}",
    "a length computed by an operator that onnx does not follow": f"(float{FREE} x) => (float[M] y) {{"
    f" s = Shape (x) p = ReduceProd <keepdims = 1> (s) a = Reshape (x, p) {CHAIN} }}",
    "a length computed by one that it follows": f"(float{FREE} x) => (float[M] y) {{"
    f" s = Shape <start = 0, end = 1> (x) t = Shape <start = 1, end = 2> (x) p = Mul (s, t) q = Mul (p, p)"
    f" a = ConstantOfShape (q) {CHAIN} }}",
    "a body": f"(float{FREE} x, bool go) => (float{FREE} y) {{ n = Constant <value_int = 3> () y = Loop (n, go, x) <body ="
    f" b (int64 i, bool k, float{FREE} h) => (bool l, float{FREE} r) {{ l = Identity (k) {BODY} }}> }}",
    "a body of fixed sizes": f"(float{FIXED} x, bool go) => (float{FIXED} y) {{ n = Constant <value_int = 3> ()"
    f" y = Loop (n, go, x) <body = b (int64 i, bool k, float{FIXED} h) => (bool l, float{FIXED} r)"
    f" {{ l = Identity (k) {BODY} }}> }}",
    "a function": f"(float{FREE} x) => (float{FREE} y) {{ y = local.f (x) }}"
    f'<domain: "local", opset_import: ["" : 17]> f (h) => (r) {{ {BODY} }}',
}
READ = """
import json, resource, sys
import onnx
from intaglio.graph.io.load import load
from intaglio.graph.readings import readings

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for path in sys.argv[1:]:
    model = load(path)
    read = readings(model)
    print(json.dumps([[shapes.dims.get(name) for name in ("x", "y")] for shapes in (read.first, *read.others)]))
"""
"""A few GB would do for none of the models: the least of the vectors takes 14."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[list[int] | None]]]:
    """Shapes of what goes in and comes out, at all sizes that are looked at."""
    folder, paths = tmp_path_factory.mktemp("long"), []
    for number, text in enumerate(MODELS.values()):
        paths.append(folder / f"{number}.onnx")
        onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g {text}'), paths[-1])
    code = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(code, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return dict(zip(MODELS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("kind", [kind for kind in MODELS if "body" not in kind])
def test_their_lengths_are_known_all_the_same(shapes: dict[str, list[list[list[int]]]], kind: str) -> None:
    for x, y in shapes[kind]:
        count = (x[0] * x[1]) ** 2 if "follows" in kind else x[0] * x[1] * x[2] * (x[3] if len(x) > 3 else 1)
        assert y == (x if kind == "a function" else [2 * count])


@pytest.mark.parametrize("kind", [kind for kind in MODELS if "body" in kind])
def test_where_bodies_make_them_nothing_wrong_is_known(
    shapes: dict[str, list[list[list[int] | None]]], kind: str
) -> None:
    for x, y in shapes[kind]:
        assert y in (None, x)
