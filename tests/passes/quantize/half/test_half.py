"""Half-precision models: types as the definitions allow, one cast where types meet, and what does not fit stays float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from intaglio.graph.errors import UsageError
from intaglio.graph.index import index_of
from intaglio.graph.io.load import load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.precision.decibels import EXACT, sqnr_db
from intaglio.passes.quantize.half.bfloat import bfloat16_weights
from intaglio.passes.quantize.half.measure import float16
from intaglio.passes.rewrite.edit import Outcome
from tests import zoo
from tests.passes.parsed import data_for, parsed
from tests.passes.quantize.transformers import encoder, tokens

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
HALF_AND_FLOAT = {TensorProto.FLOAT16, TensorProto.FLOAT}
NETWORKS = [
    "vit", "bert", "resnet", "unet", "lstm", "yolo_v5", "mamba", "hand_if", "hand_loop", "hand_resize", "hand_function",
    "hand_lp_norms", "hand_scatter_constant_places", "hand_warp", "hand_qdq_conv", "hand_float16_weights", "hand_sequence_values", "hand_suppression", "mixed_precision", "hand_gru_full",
]  # fmt: skip
"""Attention, convolution, recurrence, subgraphs, functions, sequences, and operators that know no float16."""


def well_typed(model: Model) -> Counter[str]:
    """Casts by the type they make, of a model that onnx's checker finds well-typed and that casts nothing twice."""
    proto = onnx.load_from_string(to_bytes(model))
    onnx.checker.check_model(proto, full_check=True)
    casts = [(n.input[0], a.i) for n in proto.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"]
    assert len(casts) == len(set(casts))
    return Counter(TensorProto.DataType.Name(kind) for _, kind in casts)


def no_pairs(model: Model) -> None:
    """Nothing is cast to float16 and back."""
    makers = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "Cast" else None
        assert before is None or before.op_type != "Cast" or {to(before), to(node)} != HALF_AND_FLOAT


def to(node: onnx.NodeProto) -> int:
    return int(next(a.i for a in node.attribute if a.name == "to"))


def close(model: Model, changed: Model, feeds: dict[str, np.ndarray], decibels: float) -> None:
    expected, found = run(open_session(model), feeds), run(open_session(changed), feeds)
    for name, value in expected.items():
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            assert found[name].dtype == np.float32
            assert sqnr_db(value, found[name]) > decibels, name


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_kinds_become_half_and_run(zoo_folder: Path, name: str) -> None:
    model = load(zoo.build(name, zoo.entry(name).exporter, zoo_folder))
    done = float16(model)
    well_typed(done.model)
    feeds = zoo.random_inputs(name)
    if "quantized" in zoo.entry(name).tags:
        run(open_session(done.model), feeds)
    else:
        close(model, done.model, feeds, 35)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_encoders_are_half_throughout_with_a_cast_at_each_end(opset: int) -> None:
    model = encoder(opset, outlier=1)
    x = tokens(4)
    done = float16(model, data=data_for(model, x=x))
    assert not done.skipped
    assert well_typed(done.model) == {"FLOAT16": 1, "FLOAT": 1}
    no_pairs(done.model)
    floats = [w for w in done.model.weights.values() if w.dtype == np.float32]
    assert not floats
    close(model, done.model, {"x": x}, 45)


def test_ends_may_be_half_too() -> None:
    model = encoder(17, outlier=1)
    done = float16(model, keep_io=False, data=data_for(model, x=tokens(2)))
    assert not well_typed(done.model)
    found = run(open_session(done.model), {"x": tokens(2).astype(np.float16)})["y"]
    assert found.dtype == np.float16
    assert sqnr_db(run(open_session(model), {"x": tokens(2)})["y"], found) > 45


def data_half(model: Model, **arrays: np.ndarray) -> Outcome:
    return float16(model, data=data_for(model, **arrays))


def test_what_overflows_stays_float_and_so_does_what_reads_it() -> None:
    nodes = "a = MatMul(x, w) b = Mul(a, a) c = Mul(b, b) d = Sqrt(c) e = MatMul(d, u) y = Relu(e)"
    model = parsed("float[N, 40] x", "float[N, 40] y", "float[40, 40] w, float[40, 40] u", nodes)
    x = 10 * np.random.default_rng(0).standard_normal((8, 40)).astype(np.float32)
    blind, seen = float16(model), data_half(model, x=x)
    assert "not looked for" in " ".join(blind.notes)
    with np.errstate(all="ignore"):  # ONNX Runtime's CPU would not round between these nodes
        outputs: Any = ReferenceEvaluator(onnx.load_from_string(to_bytes(blind.model))).run(["y"], {"x": x})
    assert not np.isfinite(outputs[0]).all()
    assert "65504" in seen.skipped["c"]
    assert set(seen.done) >= {"a", "e"}
    well_typed(seen.model)
    no_pairs(seen.model)
    close(model, seen.model, {"x": x}, 40)


def test_what_loses_its_digits_stays_float() -> None:
    nodes = "a = MatMul(x, w) b = Add(a, big) c = Sub(b, big) d = MatMul(c, u) y = Relu(d)"
    weights = "float[40, 40] w, float[40, 40] u, float[1] big"
    model = parsed("float[N, 40] x", "float[N, 40] y", weights, nodes, big=np.array([4096], np.float32))
    x = np.random.default_rng(0).standard_normal((8, 40)).astype(np.float32)
    done = data_half(model, x=x)
    assert "dB" in done.skipped["c"]
    strict = float16(model, data=data_for(model, x=x), least_db=20.0)
    assert set(strict.skipped) <= set(done.skipped)
    well_typed(done.model)


@pytest.mark.parametrize(
    ("value", "reason"), [(-3.4e38, "reaches 3.4e"), (1e-12, "become nought"), (-np.inf, ""), (1e-5, ""), (0.0, "")]
)
def test_constants_decide_without_data(value: float, reason: str) -> None:
    nodes = "a = MatMul(x, w) b = Add(a, c) y = MatMul(b, w)"
    constant = np.full(40, value, np.float32)
    model = parsed("float[N, 40] x", "float[N, 40] y", "float[40, 40] w, float[40] c", nodes, c=constant)
    done = float16(model)
    assert ("b" in done.skipped) == bool(reason)
    assert reason in done.skipped.get("b", "")
    assert {"a", "y"} <= set(done.done)


def test_vanishing_values_are_counted() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    weight[0, :7] = 1e-9
    done = float16(parsed("float[N, 40] x", "float[N, 40] y", "float[40, 40] w", "y = MatMul(x, w)", w=weight))
    assert "7 values of 1 constants" in done.notes[0]


def test_a_light_node_alone_is_not_worth_its_casts() -> None:
    nodes = "a = CumSum(x, axis) b = Relu(a) y = CumSum(b, axis)"
    text = "int64 axis"
    model = parsed("float[N, 40] x", "float[N, 40] y", text, nodes, axis=np.array(1))
    model.proto.opset_import[0].version = 13
    done = float16(model)
    assert not done.changed
    assert done.model is model
    assert "takes no float16" in done.skipped["a"]
    assert "alone" in done.skipped["b"]


def test_shape_takes_what_is_there_and_conversions_become_one_cast() -> None:
    nodes = """i = Cast<to = 7>(x) f = Cast<to = 1>(i) a = MatMul(f, w) s = Shape(a) n = Shape(x)
               t = Expand(b, s) y = Add(a, t) z = Add(s, n)"""
    model = parsed("float[N, 40] x", "float[N, 40] y, int64[2] z", "float[40, 40] w, float[1, 1] b", nodes)
    done = float16(model)
    kinds = Counter(n.op_type for n in done.model.graph.node)
    assert kinds["Cast"] == 3  # to integers, from them to float16, and the output to float32
    no_pairs(done.model)
    close(model, done.model, {"x": 3 * tokens(1, 4, 40)[0]}, 40)


@pytest.mark.parametrize(("order", "left"), [((1, 0, 2), True), ((1, 2, 0), True), ((0, 2, 1), False)])
def test_a_transpose_that_would_crash_onnx_runtime_stays_float(order: tuple[int, ...], left: bool) -> None:
    text = f"r = Relu(x) t = Transpose<perm = [{', '.join(map(str, order))}]>(r) y = MatMul(t, w)"
    model = parsed("float[40, 40, 40] x", "float[40, 40, 40] y", "float[40, 40] w", text)
    done = float16(model)
    assert ("28392" in done.skipped.get("t", "")) == left
    assert "y" in done.done
    close(model, done.model, {"x": tokens(40, 40, 40)}, 40)


def test_patterns_choose_nodes() -> None:
    model = encoder(17, outlier=1)
    done = float16(model, exclude=["LayerNormalization", "head"])
    assert done.skipped["head"] == "it is excluded"
    left = {n.op_type for n in done.model.graph.node if n.name in done.skipped}
    assert left == {"LayerNormalization", "Gemm", "ReduceMean"}  # the last one stands alone then
    well_typed(done.model)
    close(model, done.model, {"x": tokens(2)}, 40)
    with pytest.raises(UsageError, match="matches no group, node"):
        float16(model, include=["nothing"])


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_bfloat16_weights_are_restored_when_the_file_is_opened(opset: int, tmp_path: Path) -> None:
    import onnxruntime

    model = encoder(opset, outlier=1)
    done = bfloat16_weights(model)
    well_typed(done.model)
    assert len(done.done) == 12
    assert len(to_bytes(done.model)) < 0.75 * len(to_bytes(model))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(to_bytes(done.model), options, providers=["CPUExecutionProvider"])
    assert "Cast" not in {n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node}
    close(model, done.model, {"x": tokens(2)}, 35)


def test_bfloat16_leaves_weights_that_an_excluded_node_reads_and_those_it_cannot_hold() -> None:
    assert "is excluded" in bfloat16_weights(encoder(17), exclude=["q0"]).skipped["q0_weight"]
    weight = np.full((40, 40), 1 + 2**-8, np.float32)
    model = parsed("float[N, 40] x", "float[N, 40] y", "float[40, 40] w", "y = MatMul(x, w)", w=weight)
    assert "dB" in bfloat16_weights(model, least_db=50).skipped["w"]
    assert not bfloat16_weights(model, least_db=50).changed
    small = parsed("float[N, 4] x", "float[N, 4] y", "float[4, 4] w", "y = MatMul(x, w)")
    assert bfloat16_weights(small).model is small


def test_decibels() -> None:
    x = np.array([3.0, 4.0])
    assert sqnr_db(x, x) == EXACT
    assert sqnr_db(x, x + np.array([0.5, 0])) == pytest.approx(20)
    assert sqnr_db(x, np.array([np.inf, 0])) == -np.inf
    assert sqnr_db(np.zeros(2), np.ones(2)) == -EXACT


def test_real_networks_keep_their_accuracy(shared_data: Path) -> None:
    model = load(shared_data / "resnet20.onnx")
    with np.load(shared_data / "cifar10_test_first2000.npz") as images:
        x, labels = images["x"][:128], images["y"][:128]
    x = ((x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2).astype(np.float32)
    for done in (float16(model, data=data_for(model, input=x)), bfloat16_weights(model)):
        before, after = (run(open_session(m), {"input": x})["logits"].argmax(1) for m in (model, done.model))
        assert (after == before).mean() > 0.99
        assert abs((after == labels).mean() - (before == labels).mean()) <= 0.01
        assert len(to_bytes(done.model)) < 0.56 * len(to_bytes(model))


def test_a_free_length_below_the_kernel_is_no_obstacle() -> None:
    """With every free length 1, shape inference gives the convolution's output a length below 0."""
    weights = "float[16, 1, 400] w, float[16, 16, 3] v"
    text = "a = Conv <strides = [160]> (x, w) b = Relu(a) y = Conv(b, v)"
    model = parsed("float[N, 1, samples] x", "float[N, 16, frames] y", weights, text)
    assert "a" not in index_of(model).shapes.dims
    assert {w.dtype for w in float16(model).model.weights.values()} == {np.dtype(np.float16)}
