"""What would end the process fails, or computes what it stands for."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import load
from intaglio.measure.run.guards import guarded, may_end
from intaglio.measure.run.session import as_file, open_session, run
from tests.passes.parsed import parsed

AXES = tuple(itertools.product((0, 1, 2, -1, -2), (0, 1, 2, -1)))


def scanning(taken: int, given: int) -> onnx.ModelProto:
    """Sums along one axis, stacked along another; numbers are of what the body sees and of the whole."""
    body = "after = Add(before, part) out = Identity(after)"
    ends = "(float[P,Q] before, float[P,Q] part) => (float[P,Q] after, float[P,Q] out)"
    scan = f"<num_scan_inputs=1, scan_input_axes=[{taken}], scan_output_axes=[{given}], body = b {ends} {{ {body} }}>"
    text = f"g (float[M,N] s, float[A,B,C] x) => (float[D,E] last, float[F,G,H] y) {{ last, y = Scan {scan} (s, x) }}"
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def summed(s: np.ndarray, x: np.ndarray, taken: int, given: int) -> np.ndarray:
    return np.moveaxis(s + np.cumsum(np.moveaxis(x, taken, 0), axis=0), 0, given)


@pytest.mark.parametrize(("taken", "given"), AXES)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 1), (0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_a_scan_along_any_axis_computes_what_it_says_also_of_nothing(
    tmp_path: Path, taken: int, given: int, shape: tuple[int, ...]
) -> None:
    onnx.save(scanning(taken, given), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    s = np.ones(np.moveaxis(x, taken, 0).shape[1:], np.float32)
    assert may_end(model) == bool(taken or given)
    for opened in (model, as_file(tmp_path / "m.onnx", model)):
        session = open_session(opened)
        if not x.shape[taken]:
            with pytest.raises(BadModel):
                run(session, {"s": s, "x": x})
            continue
        made = run(session, {"s": s, "x": x})
        np.testing.assert_allclose(made["y"], summed(s, x, taken, given), rtol=1e-5)
        assert made["y"].shape == summed(s, x, taken, given).shape


def saved(path: Path, node: onnx.NodeProto, **weights: np.ndarray) -> Path:
    """One node of floats behind a Relu, or one of bytes ``z`` between those that round ``x`` and restore ``y``."""
    nodes = [onnx.helper.make_node("Relu", ["x"], ["r"]), node]
    if "z" in weights:
        node.input[0], node.output[0] = "q", "p"
        nodes.insert(1, onnx.helper.make_node("QuantizeLinear", ["r", "a", "z"], ["q"]))
        nodes.append(onnx.helper.make_node("DequantizeLinear", ["p", "a", "z"], ["y"]))
    kinds = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
    held = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "one", kinds[:1], kinds[1:], held)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


SCALE = {"s": np.linspace(0.5, 2, 8).astype(np.float32)}
BYTES: dict[str, Any] = {"a": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
LEFT_OUT: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "LayerNormalization": (["r", "s", ""], SCALE, {}),
    "Attention": (["r", "w"], {"w": np.linspace(-1, 1, 192).reshape(8, 24).astype(np.float32)}, {"num_heads": 2}),
    "Attention ": (["r", "w", ""], {"w": np.linspace(-1, 1, 192).reshape(8, 24).astype(np.float32)}, {"num_heads": 2}),
    "QLinearSigmoid": (["z", "a", "z", "a"], BYTES, {}),
    "QLinearLeakyRelu": (["z", "a", "z", "a"], BYTES, {"alpha": 0.5}),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_operands_that_are_left_out_end_no_process(tmp_path: Path, case: str) -> None:
    """As read, as it is in the file, and as it is written again: each in a process of its own, as it might end."""
    operands, weights, settings = LEFT_OUT[case]
    domain = "" if case == "LayerNormalization" else "com.microsoft"
    path = saved(
        tmp_path / "m.onnx", onnx.helper.make_node(case.strip(), operands, ["y"], domain=domain, **settings), **weights
    )
    code = (
        "import sys, numpy as np, onnxruntime as ort; from pathlib import Path; from intaglio import load, save;"
        "from intaglio.measure.run.session import as_file, open_session, run; path = Path(sys.argv[1]); model = load(path);"
        "x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32); save(model, path.with_name('o.onnx'));"
        "made = [run(open_session(one), {'x': x})['y'] for one in (model, as_file(path, model))];"
        "again = ort.InferenceSession(path.with_name('o.onnx')).run(None, {'x': x})[0];"
        "print(all(np.allclose(one, again, atol=1e-6) for one in made), np.isfinite(again).all())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr


def test_an_attention_whose_bias_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "m.onnx", onnx.helper.make_node("Attention", ["r", "r"], ["y"], domain="com.microsoft", num_heads=2)
    )
    with pytest.raises(BadModel, match="has no bias"):
        open_session(load(path))


def test_a_model_is_left_alone() -> None:
    model = parsed("float[2, 3] x", "float[2, 3] y", "", "y = Relu (x)")
    assert guarded(model) is model


EMPTY = {
    "LSTM": "float[3, B, 2] x) => (float[S, D, B2, 4] y) <float[1, 16, 2] w, float[1, 16, 4] r> { y = LSTM<hidden_size=4>(x, w, r) }",
    "GRU": "float[3, B, 2] x) => (float[S, D, B2, 4] y) <float[1, 12, 2] w, float[1, 12, 4] r> { y = GRU<hidden_size=4>(x, w, r) }",
}


@pytest.mark.parametrize("op", EMPTY)
def test_inputs_of_nothing_end_a_fork_at_most(tmp_path: Path, op: str) -> None:
    """ONNX Runtime ends the process on batches of none; as a command does, which would end with it."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({EMPTY[op]}')
    rng = np.random.default_rng(0)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.value_info}
    del model.graph.value_info[:]
    held = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in held.items())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0
    onnx.save(model, tmp_path / "m.onnx")
    for command in (["check"], ["quantize", "-o", str(tmp_path / "o.onnx"), "--scheme", "w8"]):
        words = [sys.executable, "-m", "intaglio", *command, str(tmp_path / "m.onnx")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode >= 0, done.stderr
        assert "internal" not in done.stderr
