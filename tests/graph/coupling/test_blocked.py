"""Inputs of products with weights in blocks go a whole block at a time, with scales and packed zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from intaglio.graph.coupling import Removal, analyse, mask_removed, remove
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run

INPUTS, OUTPUTS, BLOCK = 5, 3, 16


def packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Numbers along the last axis, the first in the lowest bits. Written apart from what is tested."""
    each = 8 // bits
    full = np.zeros((*numbers.shape[:-1], -(-numbers.shape[-1] // each) * each), np.uint8)
    full[..., : numbers.shape[-1]] = numbers
    parts = full.reshape(*numbers.shape[:-1], -1, each)
    return np.sum(parts.astype(np.uint16) << (bits * np.arange(each, dtype=np.uint16)), axis=-1).astype(np.uint8)


def product(
    seed: int, count: int, bits: int, zeros: str, flat: bool, middle: list[onnx.NodeProto] | None = None
) -> tuple[Model, dict[str, np.ndarray]]:
    """y = NBits(Relu(x @ first)); the weights of the second as numbers."""
    random, width = np.random.default_rng(seed), count * BLOCK
    codes = random.integers(0, 2**bits, (OUTPUTS, count, BLOCK))
    points = random.integers(0, 2**bits, (OUTPUTS, count)) if zeros else np.full((OUTPUTS, count), 2 ** (bits - 1))
    scales = random.uniform(0.01, 0.02, (OUTPUTS, count)).astype(np.float32)
    second = ((codes - points[..., None]) * scales[..., None]).reshape(OUTPUTS, width).T
    first = random.standard_normal((INPUTS, width)).astype(np.float32)
    stored = {"first": first, "codes": packed(codes, bits), "scales": scales}
    if zeros:
        stored["zeros"] = points.astype(np.float32) if zeros == "floats" else packed(points, bits)
    for name in ("scales", "zeros"):
        if flat and name in stored:
            stored[name] = stored[name].reshape(-1)
    sizes: dict[str, Any] = {"K": width, "N": OUTPUTS, "bits": bits, "block_size": BLOCK}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        *(middle or [helper.make_node("Relu", ["a"], ["b"])]),
        helper.make_node("MatMulNBits", ["b", *list(stored)[1:]], ["y"], domain="com.microsoft", **sizes),
    ]
    ends = [
        helper.make_tensor_value_info("x", 1, ["n", INPUTS]),
        helper.make_tensor_value_info("y", 1, ["n", OUTPUTS]),
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return from_proto(helper.make_model(graph, ir_version=8, opset_imports=opsets)), {"first": first, "second": second}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    gone=st.lists(st.booleans(), min_size=2, max_size=7).filter(lambda some: not all(some)),
    bits=st.sampled_from([4, 8]),
    zeros=st.sampled_from(["", "packed", "floats"]),
    flat=st.booleans(),
)
def test_whole_blocks_go_and_what_stays_computes_what_it_did(
    seed: int, gone: list[bool], bits: int, zeros: str, flat: bool
) -> None:
    if bits == 8 and zeros == "floats":
        zeros = "packed"  # the runtime has no kernel for it
    model, weights = product(seed, len(gone), bits, zeros, flat)
    coupling = analyse(model)
    (group,) = [group for group in coupling.groups if group.prunable]
    assert group.channels == len(gone)
    removed = coupling.nothing()
    removed[group.atoms[np.array(gone)]] = True
    removal = Removal(coupling, removed)
    x = np.random.default_rng(seed + 1).standard_normal((4, INPUTS)).astype(np.float32)
    small, masked = (run(open_session(one), {"x": x}, ["y"])["y"] for one in (remove(removal), mask_removed(removal)))
    stay = np.repeat(~np.array(gone), BLOCK)
    truth = np.maximum(x @ weights["first"][:, stay], 0) @ weights["second"][stay]
    np.testing.assert_allclose(small, truth, rtol=1e-4, atol=1e-4 * np.abs(truth).max())
    np.testing.assert_allclose(small, masked, rtol=1e-4, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_heads_narrower_than_a_block_go_together_with_those_that_share_it(heads: int) -> None:
    """64 inputs are four blocks; a softmax over what is in a head ties its width together."""
    shape = onnx.helper.make_tensor("s", onnx.TensorProto.INT64, [3], [-1, heads, 64 // heads])
    back = onnx.helper.make_tensor("t", onnx.TensorProto.INT64, [2], [-1, 64])
    middle = [
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("Constant", [], ["t"], value=back),
        helper.make_node("Reshape", ["a", "s"], ["h"]),
        helper.make_node("Softmax", ["h"], ["p"], axis=-1),
        helper.make_node("Reshape", ["p", "t"], ["b"]),
    ]
    coupling = analyse(product(0, 4, 4, "packed", False, middle)[0])
    assert [group.channels for group in coupling.groups if group.prunable] == [min(heads, 4)]


def test_a_last_block_that_is_not_full_keeps_all_inputs() -> None:
    model, _ = product(0, 3, 4, "packed", False)
    node = model.graph.node[-1]
    for one in node.attribute:
        if one.name == "K":
            one.i = 40
    model.put("first", model.weights["first"][:, :40])
    coupling = analyse(model)
    (group,) = [group for group in coupling.groups if ("first", 1) in group.members]
    assert "not full" in str(group.frozen_by)
