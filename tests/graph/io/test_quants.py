"""QONNX's integers in standard operators equal its definition, and run in ONNX Runtime."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.io.quants import standard_quants
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model

DOMAIN = "qonnx.custom_op.general"
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (4, 3, 40)), RNG.integers(-9, 9, (4, 3, 40)) / 8], axis=2).astype(np.float32)
"""Some of them lie half way between two codes of the scale 1/4."""


def model(*, weight: bool, scale: np.ndarray, zero: float, bits: float, **settings: Any) -> Model:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 3, 80]) for name in ("x", "y")]
    constants = {"s": scale, "z": np.float32(zero), "b": np.float32(bits), **({"w": X} if weight else {})}
    nodes = [helper.make_node("Quant", ["w" if weight else "x", "s", "z", "b"], ["q"], domain=DOMAIN, **settings)]
    nodes.append(helper.make_node("Add", ["x", "q"], ["y"]))
    weights = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def defined(scale: np.ndarray, zero: float, bits: int, *, signed: bool, narrow: bool) -> np.ndarray:
    """As the paper has it."""
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    return (np.round(np.clip(X / scale + np.float32(zero), low, high)) - np.float32(zero)) * scale


SCALES: dict[str, np.ndarray] = {
    "one": np.array(0.25, np.float32),
    "channels": np.array([0.25, 0.125, 0.5], np.float32).reshape(1, 3, 1),
}


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("scales", SCALES)
def test_what_is_written_equals_the_definition(weight: bool, scales: str) -> None:
    for bits, signed, narrow, zero in product((2, 4, 7, 8), (True, False), (True, False), (0.0, 1.0)):
        scale = SCALES[scales]
        made = model(weight=weight, scale=scale, zero=zero, bits=bits, signed=int(signed), narrow=int(narrow))
        standard_quants(made)
        assert {node.domain for node in made.graph.node} == {""}
        assert not made.weights.keys() & {"w", "b", "z"}
        (found,) = ort.InferenceSession(to_bytes(made)).run(None, {"x": X})
        wanted = X + defined(scale, zero, bits, signed=signed, narrow=narrow)
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=f"{bits} {signed} {narrow} {zero}")


def test_weights_become_integers_and_activations_of_eight_bits_qdq() -> None:
    kinds = {}
    for weight in (True, False):
        made = model(weight=weight, scale=np.array(0.25, np.float32), zero=0, bits=8, signed=1, narrow=0)
        standard_quants(made)
        kinds[weight] = [node.op_type for node in made.graph.node]
        assert any("of QONNX" in note for note in made.notes)
        assert (np.int8 in {value.dtype.type for value in made.weights.values() if value.size > 1}) == weight
    assert kinds == {True: ["DequantizeLinear", "Add"], False: ["QuantizeLinear", "DequantizeLinear", "Add"]}


@pytest.mark.parametrize(
    ("bits", "zero", "mode"), [(12, 0, "ROUND"), (1, 0, "ROUND"), (4, 0.5, "ROUND"), (4, 0, "FLOOR")]
)
def test_what_these_cannot_say_stays(bits: float, zero: float, mode: str) -> None:
    made = model(weight=True, scale=np.array(0.25, np.float32), zero=zero, bits=bits, rounding_mode=mode)
    before = onnx.ModelProto()
    before.CopyFrom(made.proto)
    standard_quants(made)
    assert made.proto == before
