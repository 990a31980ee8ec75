"""Weights that nodes compute from constants, through the command: quantized as they are, or left as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper, parser

from intaglio.cli.main import main

W = np.random.default_rng(0).standard_normal((64, 64)) / 8


def written(folder: Path, nodes: str, **weights: np.ndarray) -> Path:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x) => (float[N,64] y) {{ {nodes} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in weights.items())
    onnx.save(proto, folder / "model.onnx")
    np.savez(folder / "data.npz", x=np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32))
    return folder / "model.onnx"


def quantized(model: Path, *options: str) -> tuple[int, ModelProto | None]:
    out = model.with_name("out.onnx")
    data = ["--data", str(model.with_name("data.npz"))]
    code = main(["quantize", str(model), "-o", str(out), *data, "--no-measure", "--json", *options])
    return code, onnx.load(out) if out.exists() else None


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


def near(model: Path, result: ModelProto, decibels: float) -> bool:
    x = np.load(model.with_name("data.npz"))["x"]
    a, b = run(onnx.load(model), x), run(result, x)
    return bool(10 * np.log10((a**2).mean() / ((a - b) ** 2).mean()) > decibels)


CHAINS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "half a float": ("w = Cast <to = 1> (h) y = MatMul (x, w)", {"h": W.astype(np.float16)}),
    "a norm": ("w = Mul (v, g) y = MatMul (x, w)", {"v": W.astype(np.float32), "g": np.full((1, 64), 2, np.float32)}),
    "a bias": (
        "w = Cast <to = 1> (h) b = Mul (c, c) y = Gemm (x, w, b)",
        {"h": W.astype(np.float16), "c": np.linspace(0, 1, 64, dtype=np.float32)},
    ),
}


@pytest.mark.parametrize("scheme", ["int8", "w8", "w4", "dynamic"])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_weight_that_nodes_compute_is_quantized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chain: str, scheme: str
) -> None:
    nodes, weights = CHAINS[chain]
    model = written(tmp_path, nodes, **weights)
    code, result = quantized(model, "--scheme", scheme)
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    assert result is not None
    assert [one["name"] for one in told["layers"]] == ["y"]
    assert result.ByteSize() < model.stat().st_size
    assert near(model, result, 15 if scheme == "w4" else 30)


def test_a_layer_that_is_left_out_keeps_its_nodes(tmp_path: Path) -> None:
    nodes = "a = Cast <to = 1> (h) b = Cast <to = 1> (k) t = MatMul (x, a) y = MatMul (t, b)"
    model = written(tmp_path, nodes, h=W.astype(np.float16), k=W.T.astype(np.float16))
    code, result = quantized(model, "--scheme", "w8", "--exclude", "a")
    assert code == 0
    assert result is not None
    kept = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert np.array_equal(kept["h"], W.astype(np.float16))
    assert "a" not in kept
    assert [n.op_type for n in result.graph.node if n.output[0] == "a"] == ["Cast"]
    assert near(model, result, 30)


def test_a_table_read_as_it_is_and_transposed_becomes_integers_twice(tmp_path: Path) -> None:
    nodes = "t = Transpose (w) h = MatMul (x, w) y = MatMul (h, t)"
    model = written(tmp_path, nodes, w=W.astype(np.float32))
    code, result = quantized(model, "--scheme", "int8")
    assert code == 0
    assert result is not None
    assert not any(t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2 for t in result.graph.initializer)
    assert near(model, result, 30)


def test_integers_beside_the_table_that_stays_are_no_smaller_file(tmp_path: Path) -> None:
    model = written(tmp_path, "t = Transpose (w) h = MatMul (x, w) y = MatMul (h, t)", w=W.astype(np.float32))
    assert quantized(model, "--scheme", "int8", "--exclude", "w") == (4, None)
