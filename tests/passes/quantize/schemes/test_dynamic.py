"""Dynamic int8 computes what the operators' definitions say, in kernels that ONNX Runtime fuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.errors import UsageError
from intaglio.graph.io.check import check_graph
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.precision.decibels import sqnr_db
from intaglio.passes.quantize.schemes.dynamic import dynamic_int8
from tests.passes.parsed import parsed, run_plainly
from tests.passes.quantize.transformers import encoder, tokens

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"


def optimized(model: Model, folder: Path) -> Counter[str]:
    """Types of the nodes that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 4
    onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)


def reference(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A product as DynamicQuantizeLinear and MatMulInteger define it, in single precision where they say so."""
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.int32)
    q = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int32)
    scales = (np.abs(weight).max(0).astype(np.float64) / 127).astype(np.float32)
    integers = np.clip(np.rint(weight.astype(np.float64) / scales), -127, 127).astype(np.int32)
    return ((q - zero) @ integers).astype(np.float32) * (scale * scales)


def same_outputs(model: Model, changed: Model, feeds: Mapping[str, np.ndarray], decibels: float) -> None:
    expected, found = run(open_session(model), feeds), run(open_session(changed), feeds)
    for name, value in expected.items():
        assert sqnr_db(value, found[name]) > decibels, name


@pytest.mark.parametrize("kind", ["signed", "positive", "negative"])
def test_products_are_bit_for_bit_those_of_the_definition(kind: str) -> None:
    model = parsed("float[N, 5, 48] x", "float[N, 5, 40] y", "float[48, 40] w", "y = MatMul(x, w)")
    x = np.random.default_rng(1).standard_normal((3, 5, 48)).astype(np.float32)
    x = {"signed": x, "positive": np.abs(x), "negative": -np.abs(x)}[kind]
    found = run_plainly(dynamic_int8(model, smallest=1).model, {"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(found, reference(x, model.weights["w"]))


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_encoders_run_in_fused_kernels_with_one_quantization_for_each_tensor(opset: int, tmp_path: Path) -> None:
    model = encoder(opset, outlier=1)
    done = dynamic_int8(model, smallest=64)
    check_graph(done.model)
    assert len(done.done) == 13
    assert not done.skipped
    kinds = optimized(done.model, tmp_path)
    assert kinds["MatMulIntegerToFloat"] == 6  # queries, keys and values of two blocks share their inputs
    assert kinds["DynamicQuantizeLinear"] == 2
    assert kinds["DynamicQuantizeMatMul"] == 7
    assert not kinds["MatMulInteger"]
    same_outputs(model, done.model, {"x": tokens(4)}, 28)


def test_the_bundled_transformer_keeps_its_accuracy(tmp_path: Path) -> None:
    model = load(EXAMPLES / "vit_digits.onnx")
    done = dynamic_int8(model)
    with np.load(EXAMPLES / "digits_test.npz") as test:
        image, labels = test["image"], test["labels"]
    before, after = (
        (run(open_session(m), {"image": image})["logits"].argmax(1) == labels).mean() for m in (model, done.model)
    )
    assert after >= before - 0.005
    assert len(to_bytes(done.model)) < 0.4 * len(to_bytes(model))
    assert optimized(done.model, tmp_path)["MatMulIntegerToFloat"] == 6


GEMMS: dict[str, tuple[str, str, str]] = {
    "plain": ("float[48, 40] w", "y = Gemm(x, w)", ""),
    "transposed": ("float[40, 48] w, float[40] b", "y = Gemm<transB = 1>(x, w, b)", ""),
    "scaled": ("float[48, 40] w, float[1, 40] b", "y = Gemm<alpha = 0.5, beta = 3.0>(x, w, b)", ""),
    "negative": ("float[48, 40] w, float[3, 40] b", "y = Gemm<alpha = -2.0, beta = 1.0>(x, w, b)", ""),
    "computed bias": ("float[48, 40] w, float[40] b", "c = Relu(b) d = Exp(c) y = Gemm(x, w, d)", ""),
    "computed bias scaled": ("float[48, 40] w, float[40] b", "d = Exp(b) y = Gemm<beta = 2.0>(x, w, d)", "bias"),
    "turned data": ("float[3, 40] w", "y = Gemm<transA = 1>(x, w)", "transposed"),
    "computed": ("float[48, 40] w", "v = Exp(w) y = Gemm(x, v)", None),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("form", GEMMS)
def test_gemm_in_all_its_forms(form: str) -> None:
    weights, nodes, reason = GEMMS[form]
    model = parsed("float[3, 48] x", "float[M, 40] y", weights, nodes)
    done = dynamic_int8(model, smallest=64)
    assert done.changed == (reason == "")
    if reason:
        assert reason in done.skipped["y"]
    x = np.random.default_rng(0).standard_normal((3, 48)).astype(np.float32)
    same_outputs(model, done.model, {"x": x}, 30)


def test_a_shared_matrix_is_stored_once() -> None:
    nodes = "a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) y = Softmax(c)"
    model = parsed("float[N, 48] x", "float[N, 48] y", "float[48, 48] w", nodes)
    done = dynamic_int8(model, smallest=1)
    assert sum(w.size == 48 * 48 for w in done.model.weights.values()) == 1
    assert list(done.done) == ["a", "c"]


def recurrent(kind: str, hidden: int, directions: int, *extra: str) -> Model:
    """One recurrent layer. ``extra`` are names of its last operands."""
    rng, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3}[kind]
    shapes = {
        "w": (directions, gates * hidden, 24),
        "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden),
        "h": (directions, 2, hidden),
        "c": (directions, 2, hidden),
        "p": (directions, 3 * hidden),
    }
    weights = {n: (rng.standard_normal(s) * (0.3 if n in "bp" else s[-1] ** -0.5)) for n, s in shapes.items()}
    names = ["w", "r", "b", *extra]
    made = [numpy_helper.from_array(weights[n].astype(np.float32), n) for n in names if n]
    direction = "forward" if directions == 1 else "bidirectional"
    node = helper.make_node(kind, ["x", *names], ["y", "last"], "layer", hidden_size=hidden, direction=direction)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [7, 2, 24])]
    ends += [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "last")]
    graph = helper.make_graph([node], "recurrent", ends[:1], ends[1:], made)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("extra", [(), ("", "h", "c", "p")])
def test_lstm_runs_in_integers(directions: int, extra: tuple[str, ...]) -> None:
    model = recurrent("LSTM", 64, directions, *extra)
    done = dynamic_int8(model)
    assert "DynamicQuantizeLSTM" in done.done["layer"]
    assert [n.op_type for n in done.model.graph.node] == ["DynamicQuantizeLSTM"]
    check_graph(done.model)
    x = np.random.default_rng(1).standard_normal((7, 2, 24)).astype(np.float32)
    same_outputs(model, done.model, {"x": x}, 28)
    assert "fewer than" in dynamic_int8(recurrent("LSTM", 32, directions, *extra)).skipped["layer"]


def test_gru_is_stored_in_integers_and_computed_in_float(tmp_path: Path) -> None:
    model = recurrent("GRU", 64, 2)
    done = dynamic_int8(model)
    assert "weights only" in done.done["layer"]
    assert len(to_bytes(done.model)) < 0.4 * len(to_bytes(model))
    assert optimized(done.model, tmp_path) == {"GRU": 1}
    x = np.random.default_rng(1).standard_normal((7, 2, 24)).astype(np.float32)
    same_outputs(model, done.model, {"x": x}, 30)


def test_only_the_rows_that_are_read_of_a_table_become_floats(tmp_path: Path) -> None:
    model = parsed("int64[N] x", "float[N, 16] y", "float[100, 16] table", "y = Gather(table, x)")
    done = dynamic_int8(model, smallest=1)
    assert optimized(done.model, tmp_path)["Gather"] == 2
    x = np.array([0, 99, -1, 7])
    same_outputs(model, done.model, {"x": x}, 40)
    table = model.weights["table"]
    gap = np.abs(run(open_session(done.model), {"x": np.arange(100)})["y"] - table)
    assert (gap <= np.abs(table).max(1, keepdims=True) / 127 * 0.5001).all()


def test_each_node_that_stays_is_listed_with_a_reason() -> None:
    weights = "float[32, 32, 3, 3] k, float[8, 8] s, float[4, 32, 40] t, float[80, 64] left"
    nodes = """a = Conv<pads = [1, 1, 1, 1]>(x, k) b = MatMul(a, s) c = MatMul(left, x2) d = MatMul(x3, t)
               y = Softmax(b) z = Relu(c) u = Relu(d) m = MatMul(x2, x2)"""
    model = parsed(
        "float[1, 32, 8, 8] x, float[64, 64] x2, float[4, 5, 32] x3",
        "float[1, 32, 8, 8] y, float[80, 64] z, float[4, 5, 40] u, float[64, 64] m",
        weights,
        nodes,
    )
    done = dynamic_int8(model)
    assert not done.changed
    assert done.model is model
    for name, reason in {"a": "ConvInteger", "b": "too few", "c": "left", "d": "a batch of matrices"}.items():
        assert reason in done.skipped[name]
    assert set(done.skipped) == {"a", "b", "c", "d"}


def test_patterns_choose_nodes() -> None:
    model = encoder(17)
    assert list(dynamic_int8(model, include=["q0", "re:^k"], smallest=64).done) == ["q0", "k0", "k1"]
    left = dynamic_int8(model, exclude=["Gemm", "narrow0_weight"], smallest=64).skipped
    assert left == {"narrow0": "it is excluded", "head": "it is excluded"}
    with pytest.raises(UsageError, match="matches no group, node"):
        dynamic_int8(model, exclude=["nothing"])


def test_seven_bits_where_processors_add_pairs_in_sixteen() -> None:
    done = dynamic_int8(encoder(17), reduce_range=True, smallest=64)
    peaks = [np.abs(w).max() for n, w in done.model.weights.items() if n.endswith("_int8")]
    assert max(peaks) == 63
