"""Cleaning a graph, through the command: what goes, and that outputs stay at every size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper, parser

from intaglio.cli.main import main

IMAGE = "float[N,8,H,W] x", "float[N,C,P,Q] y", (1, 8, 5, 6), (2, 8, 9, 4)
ROWS = "float[N,8] x", "float[N,C] y", (1, 8), (5, 8)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def normalization(channels: int, name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(channels)
    names = (f"{name}{part}" for part in ("g", "b", "m", "v"))
    return {key: rng.uniform(0.5, 1.5, channels).astype(np.float32) for key in names}


def simplified(
    folder: Path, ends: Sequence[object], nodes: str, weights: dict[str, np.ndarray], *options: str
) -> ModelProto:
    """What the command writes; outputs were compared at two sizes, and the file is no larger."""
    source, out = folder / "model.onnx", folder / "out.onnx"
    graph = f"g ({ends[0]}) => ({ends[1]}) {{ {nodes} }}"
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in weights.items())
    onnx.save(proto, source)
    assert main(["simplify", str(source), "-o", str(out), "--no-measure", "--json", "--force", *options]) == 0
    assert out.stat().st_size <= source.stat().st_size + 600  # the recipe that a file carries
    before, after = (ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (source, out))
    for shape in ends[2:]:
        feed = {"x": drawn(*shape)}  # type: ignore[misc]
        (a,), (b,) = before.run(None, feed), after.run(None, feed)
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    return onnx.load(out)


def ops(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


CASES: dict[str, tuple[Sequence[object], str, dict[str, np.ndarray], list[str]]] = {
    "branches of RepVGG": (
        IMAGE,
        """a = Conv <pads = [1, 1, 1, 1]> (x, k) b = BatchNormalization (a, ag, ab, am, av)
        c = Conv (x, p) d = BatchNormalization (c, cg, cb, cm, cv) e = BatchNormalization (x, eg, eb, em, ev)
        s = Add (b, d) t = Add (s, e) y = Relu (t)""",
        {"k": drawn(8, 8, 3, 3), "p": drawn(8, 8, 1, 1)}
        | normalization(8, "a") | normalization(8, "c") | normalization(8, "e"),
        ["Conv", "Relu"],
    ),
    "the input beside groups": (
        IMAGE,
        "a = Conv <group = 4, pads = [1, 1, 1, 1]> (x, k) y = Add (x, a)",
        {"k": drawn(8, 2, 3, 3)},
        ["Conv"],
    ),
    "kernels that see other places": (
        IMAGE,
        "i = Identity (x) a = Conv <pads = [0, 1, 2, 1]> (i, k) c = Conv <strides = [2, 2]> (i, p) d = Relu (c) "
        "e = ReduceMax <keepdims = 1, axes = [2, 3]> (d) y = Add (a, e)",
        {"k": drawn(8, 8, 3, 3), "p": drawn(8, 8, 1, 1)},
        ["Conv", "Conv", "Relu", "ReduceMax", "Add"],
    ),
    "1x1 in a row": (
        IMAGE,
        "a = Conv (x, k, j) b = Conv (a, p, q) y = Relu (b)",
        {"k": drawn(32, 8, 1, 1), "j": drawn(32), "p": drawn(8, 32, 1, 1), "q": drawn(8)},
        ["Conv", "Relu"],
    ),
    "a bottleneck is cheaper as it is": (
        IMAGE,
        "i = Identity (x) a = Conv (i, k) y = Conv (a, p)",
        {"k": drawn(2, 8, 1, 1), "p": drawn(32, 2, 1, 1)},
        ["Conv", "Conv"],
    ),
    "products in a row": (
        ROWS,
        "a = MatMul (x, k) b = Add (a, j) c = MatMul (b, p) y = Add (q, c)",
        {"k": drawn(8, 64), "j": drawn(64), "p": drawn(64, 4), "q": drawn(4)},
        ["MatMul", "Add"],
    ),
    "Gemm in a row": (
        ROWS,
        "a = Gemm <transB = 1, alpha = 0.5> (x, k, j) y = Gemm <beta = 2.0> (a, p, q)",
        {"k": drawn(64, 8), "j": drawn(64), "p": drawn(64, 4), "q": drawn(4)},
        ["Gemm"],
    ),
    "BatchNormalization before a layer": (
        IMAGE,
        "b = BatchNormalization (x, ag, ab, am, av) a = Conv <group = 2> (b, k) y = Relu (a)",
        {"k": drawn(16, 4, 2, 2)} | normalization(8, "a"),
        ["Conv", "Relu"],
    ),
    "scales and shifts": (
        IMAGE,
        "a = Conv (x, k) b = Mul (s, a) c = Sub (b, t) d = Div (c, u) y = Add (d, v)",
        {"k": drawn(16, 8, 1, 1), "s": drawn(16, 1, 1), "t": drawn(1, 16, 1, 1), "u": np.array([2], np.float32), "v": drawn(16, 1, 1)},
        ["Conv"],
    ),
    "nodes that do nothing": (
        IMAGE,
        """p = Transpose <perm = [0, 2, 3, 1]> (x) q = Transpose <perm = [0, 3, 1, 2]> (p) c = Cast <to = 1> (q)
        d = Cast <to = 11> (c) e = Cast <to = 1> (d) f = Pad (e, zeros) h = Slice (f, zero, many, zero) y = Relu (h)""",
        {"zeros": np.zeros(8, np.int64), "zero": np.zeros(1, np.int64), "many": np.full(1, 2**40, np.int64)},
        ["Relu"],
    ),
    "the same twice": (
        IMAGE,
        "a = Sigmoid (x) b = Sigmoid (x) c = Mul (x, a) d = Mul (x, b) y = Concat <axis = 1> (c, d)",
        {},
        ["Sigmoid", "Mul", "Concat"],
    ),
    "numbers made of constants": (
        ROWS,
        "n = ReduceL2 <axes = [0], keepdims = 1> (v) u = Div (v, n) w = Mul (u, g) y = MatMul (x, w)",
        {"v": drawn(8, 16), "g": drawn(1, 16)},
        ["MatMul"],
    ),
    "lengths that nothing changes": (
        IMAGE,
        "s = Shape (x) c = Slice (s, ones, twos) d = Concat <axis = 0> (zero, c, minus) r = Reshape (x, d) y = Unsqueeze (r, last)",
        {"ones": np.array([1], np.int64), "twos": np.array([2], np.int64), "zero": np.array([0], np.int64), "minus": np.array([-1], np.int64), "last": np.array([3], np.int64)},
        ["Reshape", "Unsqueeze"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_can_go_goes_and_outputs_stay(name: str, tmp_path: Path) -> None:
    ends, nodes, weights, left = CASES[name]
    model = simplified(tmp_path, ends, nodes, weights)
    assert ops(model) == left
    onnx.checker.check_model(model, full_check=True)


def test_nothing_is_written_where_nothing_can_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x) => (float[N,8] y) { y = Relu (x) }'
    )
    onnx.save(proto, tmp_path / "model.onnx")
    assert main(["simplify", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out.onnx"), "--json"]) == 4
    assert "as simple as it gets" in json.loads(capsys.readouterr().out)["error"]["what"]
    assert not (tmp_path / "out.onnx").exists()


def test_options_leave_out_what_rounds_anew(tmp_path: Path) -> None:
    ends, nodes, weights, _ = CASES["branches of RepVGG"]
    model = simplified(
        tmp_path, ends, f"i = Identity (x) {nodes.replace('(x', '(i')}", weights, "--no-fold", "--no-merge"
    )
    assert ops(model).count("BatchNormalization") == 3


def test_a_file_that_would_grow_by_its_recipe_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x) => (float[N,8] y) { i = Identity (x) y = Relu (i) }'
    )
    onnx.save(proto, source)
    assert main(["simplify", str(source), "-o", str(out), "--no-measure"]) == 4
    assert "nothing was written" in capsys.readouterr().err
    assert not out.exists()


def test_a_tensor_without_numbers_whose_other_lengths_are_free_stays(tmp_path: Path) -> None:
    """A part of no width that is joined to others, as heads of detectors have it."""
    ends = "float[N,4] x", "float[N,4] y", (1, 4), (3, 4)
    nodes = """s = Shape (x) n = Slice (s, start, end) m = Concat <axis = 0> (n, none)
    e = ConstantOfShape (m) f = Mul (e, two) z = Neg (x) y = Concat <axis = 1> (z, f)"""
    whole = {name: np.array([number]) for name, number in (("start", 0), ("end", 1), ("none", 0))}
    made = simplified(tmp_path, ends, nodes, {**whole, "two": np.array(2, np.float32)})
    assert all(np.prod(weight.dims) for weight in made.graph.initializer)
    assert "ConstantOfShape" in ops(made)


def test_places_that_are_computed_stay_constant_for_a_table_that_stays(tmp_path: Path) -> None:
    """What a Gather makes of a small table is larger than both, so that it stays; its places are computed all the same."""
    weights: dict[str, np.ndarray] = {
        "w": drawn(8, 2),
        "a": np.arange(400, dtype=np.int32) % 2,
        "places": np.arange(400, dtype=np.int64)[::-1].copy(),
    }
    made = simplified(
        tmp_path, ROWS, "i = GatherElements (a, places) t = Gather <axis = 1> (w, i) y = MatMul (x, t)", weights
    )
    assert [node.op_type for node in made.graph.node] == ["Gather", "MatMul"]
