"""The table of integer kernels against the graph that ONNX Runtime makes: every entry must be fused there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.graph.traits import EVERYWHERE, Runtime, Trait, operators
from intaglio.passes import Context
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.placement.kernels import kernels
from intaglio.passes.quantize.placement.placement import place
from tests.passes.parsed import data_for, parsed, run_plainly

CONVOLVED = "c = Conv <pads = [1, 1, 1, 1]> (x, w) "
WEIGHTS = "float[8, 4, 3, 3] w, float[6, 8, 1, 1] w2"
I64 = {
    "axes": [2, 3],
    "first": [0, 0],
    "last": [4, 4],
    "wide": [1, 1, 1, 1],
    "two": [2, 1, 1, 1],
    "pads": [0, 1, 0, 0, 0, 1, 0, 0],
}
BETWEEN = {
    "Add": ("d = Conv <pads = [1, 1, 1, 1]> (x, w3) m = Add(c, d)", "QLinearAdd"),
    "Mul": ("d = Conv <pads = [1, 1, 1, 1]> (x, w3) m = Mul(c, d)", "QLinearMul"),
    "Concat": ("m = Concat <axis = 2> (c, c)", "QLinearConcat"),
    "AveragePool": ("m = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)", "QLinearAveragePool"),
    "GlobalAveragePool": ("m = GlobalAveragePool(c)", "QLinearGlobalAveragePool"),
    "LeakyRelu": ("m = LeakyRelu <alpha = 0.1> (c)", "QLinearLeakyRelu"),
    "Sigmoid": ("m = Sigmoid(c)", "QLinearSigmoid"),
    "MaxPool": ("m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)", "NhwcMaxPool"),
    "Reshape": ("m = Reshape(c, shape)", "Reshape"),
    "Flatten": ("f = Flatten <axis = 2> (c) m = Reshape(f, shape)", "Flatten"),
    "Transpose": ("m = Transpose <perm = [0, 1, 3, 2]> (c)", "Transpose"),
    "Squeeze": ("u = Unsqueeze(c, one) m = Squeeze(u, one)", ""),
    "Unsqueeze": ("u = Unsqueeze(c, one) m = Squeeze(u, one)", ""),
    "Slice": ("m = Slice(c, first, last, axes)", "Slice"),
    "Split": ("m0, m1 = Split <axis = 2> (c) m = Add(m0, m1)", "Split"),
    "Gather": ("m = Gather <axis = 2> (c, last)", "Gather"),
    "DepthToSpace": ("z = DepthToSpace <blocksize = 2> (c) m = Concat <axis = 1> (z, z, z, z)", "DepthToSpace"),
    "SpaceToDepth": ("z = SpaceToDepth <blocksize = 2> (c) m = Slice(z, none, eight, one)", "SpaceToDepth"),
    "Expand": ("m = Expand(c, wide)", ""),
    "Tile": ("m = Tile(c, two)", "Tile"),
    "Resize": ('m = Resize <mode = "nearest"> (c, , doubled)', "Resize"),
    "Pad": ("m = Pad(c, pads)", "Pad"),
}
EXTRA: dict[str, np.ndarray] = {
    **{name: np.array(value, np.int64) for name, value in I64.items()},
    "shape": np.array([0, 8, -1, 4], np.int64),
    "one": np.array([1], np.int64),
    "none": np.array([0], np.int64),
    "eight": np.array([8], np.int64),
    "doubled": np.array([1, 1, 2, 2], np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
}


def network(op: str) -> Model:
    """A convolution, the operator, another convolution."""
    body, _ = BETWEEN[op]
    used = {name: value for name, value in EXTRA.items() if f"{name})" in body or f"{name}," in body}
    kinds = {"i": "int64", "f": "float"}
    constants = "".join(f", {kinds[v.dtype.kind]}[{len(v)}] {name}" for name, v in used.items())
    return parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 6, A, B] y",
        f"{WEIGHTS}, float[8, 4, 3, 3] w3{constants}",
        f"{CONVOLVED}{body} y = Conv(m, w2)",
        **used,
    )


def images(samples: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, 4, 8, 8)).astype(np.float32)


def optimized(model: Model, folder: Path, *, signed: bool = False) -> Counter[str]:
    """Operators of the graph that ONNX Runtime makes. ``signed`` lets it keep signed activations, as it does on ARM."""
    path, options = folder / "optimized.onnx", onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.qdqisint8allowed", "1" if signed else "0")
    onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_every_operator_between_layers_is_tried_here() -> None:
    known = kernels(Runtime.ORT)
    layers = {op for op, kernel in known.items() if kernel.starts}
    assert layers == {"Conv", "Gemm", "MatMul"}
    assert set(BETWEEN) == set(known) - layers


def test_what_each_runtime_computes_in_integers_goes_there_and_floats_go_between_layers_where_they_may() -> None:
    """Sigmoid has integer kernels in ONNX Runtime and LiteRT alone; elsewhere layers give it floats."""
    ends = "float[N, 4, 8, 8] x", "float[N, 6, A, B] y", WEIGHTS
    gated = parsed(*ends, f"{CONVOLVED} s = Sigmoid(c) r = GlobalMaxPool(s) m = Mul(s, r) y = Conv(m, w2)")
    placed = {runtime: place(gated, runtime=runtime).tensors for runtime in Runtime}
    assert placed == {
        Runtime.ORT: ("x", "c", "m", "y"),
        Runtime.OPENVINO: ("x", "m"),
        Runtime.TENSORRT: ("x", "m"),
        Runtime.LITERT: ("x", "c", "s", "r", "m", "y"),
    }
    pooled = parsed(*ends, f"{CONVOLVED} r = GlobalMaxPool(c) y = Conv(r, w2)")
    moved = {runtime: place(pooled, runtime=runtime).moved for runtime in (*Runtime, EVERYWHERE)}
    assert moved == {
        Runtime.ORT: {},
        Runtime.OPENVINO: {"r": "c"},
        Runtime.TENSORRT: {},
        Runtime.LITERT: {"r": "c"},
        EVERYWHERE: {},
    }


@pytest.mark.parametrize("target", ["x86", "arm"])
@pytest.mark.parametrize("op", BETWEEN)
def test_the_runtime_computes_it_in_integers(op: str, target: str, tmp_path: Path) -> None:
    model = network(op)
    done = Quantize(target=target, ranges="minmax").run(model, Context(data=data_for(model, x=images())))
    used = optimized(done.model, tmp_path, signed=target == "arm")
    assert used["QLinearConv"] == sum(n.op_type == "Conv" for n in model.graph.node)
    assert (used["QuantizeLinear"], used["DequantizeLinear"]) == (1, 1), used
    assert not BETWEEN[op][1] or used[BETWEEN[op][1]]


@pytest.mark.parametrize("op", BETWEEN)
def test_outputs_stay_near(op: str) -> None:
    model = network(op)
    done = Quantize(ranges="minmax").run(model, Context(data=data_for(model, x=images())))
    assert done.details["sqnr_db"]["y"] > 25


@pytest.mark.parametrize("op", sorted(operators(Trait.RECTIFIES)))
def test_rectifiers_are_done_by_saturation(op: str, tmp_path: Path) -> None:
    more = "float low, float high" if op == "Clip" else ""
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 6, 8, 8] y",
        f"{WEIGHTS}{', ' if more else ''}{more}",
        f"{CONVOLVED} m = {op}(c{', low, high' if more else ''}) y = Conv(m, w2)",
        **({"low": np.array(0, np.float32), "high": np.array(1.5, np.float32)} if more else {}),
    )
    done = Quantize().run(model, Context(data=data_for(model, x=images())))
    assert not any(node.op_type == op for node in done.model.graph.node)
    assert optimized(done.model, tmp_path)["QLinearConv"] == 2
    m = run_plainly(done.model, {"x": images()}, ["m"])["m"]
    assert m.min() >= 0
    assert m.max() <= 1.5 * 1.01 or op == "Relu"


def test_gemm_and_matmul_may_end_in_floats(tmp_path: Path) -> None:
    model = parsed(
        "float[N, 16] x",
        "float[N, 5] y",
        "float[16, 12] w, float[12, 5] v, float[5] b",
        "h = MatMul(x, w) r = Relu(h) y = Gemm(r, v, b)",
    )
    x = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    done = Quantize().run(model, Context(data=data_for(model, x=x)))
    used = optimized(done.model, tmp_path)
    assert used["QLinearMatMul"] + used["MatMulIntegerToFloat"] == 1
    assert used["QGemm"] == 1
    assert used["DequantizeLinear"] == 0
    assert done.details["sqnr_db"]["y"] > 30


def test_what_has_no_integer_kernel_is_told_with_the_reason() -> None:
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 8, 8, 8] y",
        "float[8, 4, 3, 3] w, float[1, 8, 1, 1] k",
        f"{CONVOLVED} e = Erf(c) a = Add(e, k) y = Softmax <axis = 1> (a)",
    )
    skipped = place(model).skipped
    assert skipped == {
        "e": "it has no integer kernel",
        "a": "what it reads is not in integers",
        "y": "it has no integer kernel",
    }


def test_integers_beside_floats_stay_what_they_are() -> None:
    """A pool's indices are no activations, and what pads floats goes on doing so."""
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 6, 6, 6] y, int64[N, 8, 4, 4] indices",
        "float[8, 4, 3, 3] w, float[6, 8, 1, 1] w2, float[8, 8, 1, 1] w3, int64[8] pads",
        f"{CONVOLVED} p, indices = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c) d = Conv(p, w3) t = Tanh(d) "
        "q = Pad(t, pads) y = Conv(q, w2)",
        pads=EXTRA["pads"],
    )
    done = Quantize(ranges="minmax").run(model, Context(data=data_for(model, x=images())))
    assert len(done.layers) == 3
    assert done.details["sqnr_db"]["y"] > 20
