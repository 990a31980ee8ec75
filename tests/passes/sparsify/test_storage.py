"""Packed weights are unpacked to the same numbers, and take fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import file_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.derived import seen_through
from intaglio.passes.rewrite.zeros import Stored, pack_weights

KINDS = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.int8: TensorProto.INT8}


def model_of(weight: np.ndarray) -> Model:
    """Adds a weight, which is more than zero, to nothing."""
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    node = helper.make_node("Where", ["pick", "w", "x"], ["y"])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, weight.shape), helper.make_tensor_value_info("pick", 9, [1])],
        [helper.make_tensor_value_info("y", kind, weight.shape)],
    )
    return loaded(graph, weight)


def loaded(graph: onnx.GraphProto, weight: np.ndarray) -> Model:
    graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


def sparse(rng: np.random.Generator, shape: tuple[int, ...], density: float, values: int, kind: type) -> np.ndarray:
    book = rng.normal(size=values) * 40
    return np.where(rng.random(shape) < density, rng.choice(book, size=shape), 0.0).astype(kind)


@settings(max_examples=20)
@given(
    st.integers(0, 999),
    st.sampled_from([(70, 41), (33, 8, 3, 3), (2000,), (257, 16)]),
    st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]),
    st.sampled_from([1, 2, 3, 15, 100, 5000]),
    st.sampled_from(list(KINDS)),
)
def test_every_number_comes_back(seed: int, shape: tuple[int, ...], density: float, values: int, kind: type) -> None:
    weight = sparse(np.random.default_rng(seed), shape, density, values, kind)
    packed = pack_weights(model_of(weight), ["w"])
    feed = {"x": np.zeros(shape, kind), "pick": np.ones(1, bool)}
    (found,) = run(open_session(packed), feed).values()
    assert np.array_equal(found, weight)
    if "w" in packed.weights:
        return
    assert file_bytes(packed) < file_bytes(model_of(weight))


def test_bytes_are_what_theory_says() -> None:
    rng = np.random.default_rng(0)
    weight, count = sparse(rng, (256, 256), 0.2, 5000, np.float32), 256 * 256
    assert Stored.of(weight.reshape(-1)).nbytes == count // 8 + 4 * (np.count_nonzero(weight) + 1)
    few = sparse(rng, (256, 256), 0.2, 15, np.float32)
    assert Stored.of(few.reshape(-1)).nbytes == pytest.approx(count / 8 + np.count_nonzero(few) / 2 + 4 * 16, abs=2)
    thin = sparse(rng, (256, 256), 0.01, 5000, np.float32)
    assert Stored.of(thin.reshape(-1)).nbytes < count // 16 + 4 * (
        np.count_nonzero(thin) + 1
    )  # of the map of zeros, too


def test_passes_see_floats_through_their_map_and_no_integers() -> None:
    rng = np.random.default_rng(0)
    for kind, seen in ((np.float32, True), (np.int8, False)):
        weight = sparse(rng, (64, 64), 0.2, 5000, kind)
        node = helper.make_node("MatMul", ["x", "w" if seen else "wide"], ["y"])
        cast = [] if seen else [helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT)]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
        graph = helper.make_graph([*cast, node], "one", ends[:1], ends[1:])
        packed = pack_weights(loaded(graph, weight), ["w"])
        assert "w" not in packed.weights
        through = seen_through(packed)
        assert (through is not None) == seen
        if through is not None:
            assert np.array_equal(through.model.weights["w"], weight)
