"""Stored bits: the model computes exactly what they stand for, in every form, for every kind of layer and code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.cost import cost
from intaglio.graph.io.check import check_graph
from intaglio.graph.io.load import load
from intaglio.graph.io.save import save, to_bytes
from intaglio.graph.layer import Layer
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize import Binarize
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, BitRule
from intaglio.passes.binarize.storage.storage import Bits, store
from intaglio.passes.precision.layout import independent
from tests.passes.parsed import parsed
from tests.passes.quantize.storage.test_storage import MODELS as LAYERS
from tests.passes.quantize.storage.test_storage import feed, outputs

MODELS: dict[str, Callable[[], Model]] = {
    **LAYERS,
    "transposed": lambda: parsed(
        "float[N,6,4,4] x", "float[N,10,6,6] y", "float[6,10,3,3] w", "y = ConvTranspose(x, w)"
    ),
    "transposed grouped": lambda: parsed(
        "float[N,6,4,4] x", "float[N,10,6,6] y", "float[6,5,3,3] w", "y = ConvTranspose <group=2> (x, w)"
    ),
    "double": lambda: parsed(
        "double[N,40] x",
        "double[N,12] y",
        "double[40,12] w",
        "y = MatMul(x, w)",
        w=np.random.default_rng(0).normal(size=(40, 12)) / 6,
    ),
}


def where_of(model: Model) -> Layer:
    found = [*Layers(model), *independent(model)]
    return found[0]


def coded(model: Model, name: str, block: int = 0, *, half: bool = False) -> Bits:
    where = where_of(model)
    block = 0 if BINARIZERS[name].block is None else block
    weight = model.weights[where.weight]
    return Bits(where, BitRule(name, block, half=half).solve(where.matrix(weight), None)[1], weight)


def with_floats(model: Model, *entries: Bits) -> Model:
    changed = model.copy()
    for one in entries:
        changed.weights[one.where.weight] = one.where.weight_like(one.code.floats(), model.weights[one.where.weight])
    return changed


@pytest.mark.parametrize("name", list(BINARIZERS))
@pytest.mark.parametrize("kind", list(MODELS))
def test_bits_are_the_floats_that_they_stand_for(kind: str, name: str) -> None:
    model = MODELS[kind]()
    for block, half in ((0, False), (16, True), (7, False)):
        one = coded(model, name, block, half=half)
        expected = outputs(with_floats(model, one), feed(model))
        for form in ("packed", "standard", "dense"):
            stored = store(model, [one], form)
            check_graph(stored)
            onnx.checker.check_model(onnx.load_from_string(to_bytes(stored)))
            for optimize in (False, True):
                got = outputs(stored, feed(model), optimize=optimize)
                np.testing.assert_allclose(got[0], expected[0], atol=2e-5, err_msg=f"{form} {block}")
            standard = {node.domain for node in stored.graph.node} == {""} and not stored.proto.functions
            assert standard == (form != "packed")


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 70),
    st.sampled_from(sorted(BINARIZERS)),
    st.sampled_from([0, 5, 8, 32]),
    st.data(),
)
def test_any_width_and_block(rows: int, columns: int, name: str, block: int, data: st.DataObject) -> None:
    across = data.draw(st.booleans())
    shape, flag = (f"{rows},{columns}", 1) if across else (f"{columns},{rows}", 0)
    model = parsed(
        f"float[N,{columns}] x",
        f"float[N,{rows}] y",
        f"float[{shape}] w, float[{rows}] b",
        f"y = Gemm <transB={flag}> (x, w, b)",
    )
    one = coded(model, name, block)
    got = outputs(store(model, [one], "packed"), feed(model))[0]
    np.testing.assert_allclose(got, outputs(with_floats(model, one), feed(model))[0], atol=2e-5)


@pytest.mark.parametrize("name", list(BINARIZERS))
def test_bits_that_are_told_are_those_in_the_file(name: str) -> None:
    model = parsed("float[N,512] x", "float[N,256] y", "float[512,256] w", "y = MatMul(x, w)")
    one = coded(model, name, 128)
    stored = store(model, [one], "packed")
    arrays = sum(w.nbytes for w in stored.weights.values() if w.nbytes > 64)
    assert one.nbytes == pytest.approx(arrays, abs=200)
    least = {"xnor": 1, "onebit": 1, "pb": 2.8}.get(name, 2)
    bits = 8 * one.nbytes / model.weights["w"].size
    assert least < bits < least + 0.6


def test_the_runtime_decodes_once_when_it_opens_the_file(tmp_path: Path) -> None:
    """What is left in its graph is one product of floats: time and memory of a run are those of the float model."""
    model = MODELS["matmul"]()
    for name in BINARIZERS:
        for form in ("packed", "standard"):
            save(store(model, [coded(model, name, 16)], form), tmp_path / "m.onnx")
            options = onnxruntime.SessionOptions()
            options.optimized_model_filepath = str(tmp_path / "opened.onnx")
            onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
            left = Counter(node.op_type for node in onnx.load(tmp_path / "opened.onnx").graph.node)
            left.pop("Mul", None)  # scales of columns multiply what goes in
            assert left == {"MatMul": 1}, (name, form)


@pytest.mark.parametrize("form", ["packed", "standard"])
@pytest.mark.parametrize("name", ["planes", "pb", "billm", "dbllm"])
def test_a_saved_file_is_read_back_as_it_was(tmp_path: Path, name: str, form: str) -> None:
    for kind in ("conv", "gemm transB"):
        model = MODELS[kind]()
        stored = store(model, [coded(model, name, 16)], form)
        save(stored, tmp_path / "m.onnx")
        again = load(tmp_path / "m.onnx")
        np.testing.assert_array_equal(outputs(again, feed(model))[0], outputs(stored, feed(model))[0])
        save(again, tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").stat().st_size <= (tmp_path / "m.onnx").stat().st_size
        assert cost(again).macs + cost(again).bops == cost(model).macs


def test_layers_that_share_a_weight_share_its_bits() -> None:
    model = parsed(
        "float[N,4,40] x",
        "float[N,4,40] y",
        "float[40,40] w",
        "a = MatMul(x, w) r = Relu(a) y = MatMul(r, w)",
    )
    first, second = Layers(model)
    weight = model.weights["w"]
    code = BitRule("planes").solve(first.matrix(weight), None)[1]
    stored = store(model, [Bits(first, code, weight), Bits(second, code, weight)], "packed")
    assert sorted(stored.weights) == ["w/planes", "w/scale"]
    np.testing.assert_allclose(
        outputs(stored, feed(model))[0],
        outputs(with_floats(model, Bits(first, code, weight)), feed(model))[0],
        atol=1e-5,
    )


def test_a_weight_that_others_read_as_floats_stays_for_them() -> None:
    model = parsed(
        "float[N,40] x",
        "float[N,40] y, float[40,40] v",
        "float[40,40] w",
        "a = MatMul(x, w) y = Relu(a) v = Neg(w)",
    )
    (layer,) = Layers(model)
    for name in ("planes", "pb"):
        code = BitRule(name).solve(layer.matrix(model.weights["w"]), None)[1]
        got = run(
            open_session(store(model, [Bits(layer, code, model.weights["w"])], "packed"), optimize=False), feed(model)
        )
        np.testing.assert_array_equal(got["v"], -model.weights["w"])


def test_scales_of_sixteen_bits_are_used_where_nothing_is_lost() -> None:
    model = MODELS["conv"]()
    (layer,) = Layers(model)
    weight = model.weights["w"]
    for size, kind in ((1.0, np.float16), (1e-6, np.float32), (1e9, np.float32)):
        code = BitRule("planes", half=True).solve(layer.matrix(weight * size), None)[1]
        arrays = Bits(layer, code, weight).arrays
        assert arrays["scale"].dtype == kind
        planes, _ = code.plane_scales()
        np.testing.assert_allclose(arrays["scale"].reshape(planes.shape), planes, rtol=1e-6)


def test_half_precision_models_stay_half() -> None:
    model = parsed(
        "float16[N,3,64] x",
        "float16[N,3,64] y",
        "float16[64,64] w, float16[64,64] v, float16[64,64] u",
        "a = MatMul(x, w) b = MatMul(a, v) y = MatMul(b, u)",
        **{n: (np.random.default_rng(k).normal(size=(64, 64)) / 8).astype(np.float16) for k, n in enumerate("wvu")},
    )
    made = Binarize(scheme="planes").run(model).model
    assert [n.op_type for n in made.graph.node if n.domain] == ["UnpackWeight"]
    got = outputs(made, feed(model))[0]
    assert got.dtype == np.float16
    assert np.corrcoef(got.ravel().astype(float), outputs(model, feed(model))[0].ravel().astype(float))[0, 1] > 0.8
