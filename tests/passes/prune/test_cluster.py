"""Copies of channels go first, and what reads them reads the one that stays: nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio import PruneChannels
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run


def network(rng: np.random.Generator, channels: int, copies: dict[int, tuple[int, float]], residual: bool) -> Model:
    """Conv, Relu, Conv; channels that are copies, times a factor, of others. With a sum of two convolutions in front."""
    weights = {
        "a": rng.normal(size=(channels, 3, 3, 3)),
        "b": rng.normal(size=channels),
        "c": rng.normal(size=(channels, 3, 1, 1)),
        "d": rng.normal(size=(4, channels, 3, 3)),
    }
    for copy, (of, factor) in copies.items():
        for name in "abc":
            weights[name][copy] = weights[name][of] * (1.0 if residual else factor)
    made = helper.make_node("Conv", ["x", "a", "b"], ["y"], "first", pads=[1, 1, 1, 1])
    beside = [helper.make_node("Conv", ["x", "c"], ["z"], "beside"), helper.make_node("Add", ["y", "z"], ["s"], "sum")]
    nodes = [
        made,
        *(beside if residual else ()),
        helper.make_node("Relu", ["s" if residual else "y"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "d"], ["out"], "last"),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, c, s, s]) for n, c, s in (("x", 3, 8), ("out", 4, 6))
    ]
    held = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items() if residual or n != "c"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@settings(max_examples=8)
@given(st.integers(0, 999), st.integers(1, 4), st.booleans())
def test_copies_merge_without_a_trace(seed: int, count: int, residual: bool) -> None:
    rng = np.random.default_rng(seed)
    copies = {4 + k: (int(rng.integers(0, 4)), float(rng.uniform(0.2, 5))) for k in range(count)}
    model = network(rng, 4 + count, copies, residual)
    keep = 4 / (4 + count)
    small = PruneChannels(target="channels", keep=keep, criterion="cluster").run(model).model
    image = {"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)}
    (before,), (after,) = (run(open_session(one), image).values() for one in (model, small))
    assert small.weights["d"].shape[1] == 4
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()
    plain = PruneChannels(target="channels", keep=keep, criterion="cluster", repair="none").run(model).model
    (lost,) = run(open_session(plain), image).values()
    assert np.abs(lost - before).max() > 1e-2 * np.abs(before).max()


@pytest.mark.parametrize("criterion", ["cluster", "spline"])
def test_a_channel_like_another_goes_first(criterion: str) -> None:
    rng = np.random.default_rng(1)
    model = network(rng, 8, {5: (2, 1.0)}, residual=False)
    change = PruneChannels(target="channels", keep=7 / 8, criterion=criterion, repair="none").run(model)
    kept = {row.tobytes() for row in change.model.weights["a"]}
    gone = [k for k, row in enumerate(model.weights["a"]) if row.tobytes() not in kept]
    assert gone == []  # one of the two is left
    assert len(change.model.weights["a"]) == 7
