"""The proof: what it compares, what it forgives, and what it does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.coupling import Removal, analyse, remove
from intaglio.graph.errors import ProofFailed
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.passes.prune.proof import prove

from .nets import attention, conv_pair


def half(model: Model) -> Removal:
    coupling = analyse(model)
    removed = coupling.nothing()
    for group in coupling.groups:
        if group.prunable:
            removed[group.atoms[: len(group.atoms) // 2]] = True
    return Removal(coupling, removed)


def amplifies_rounding() -> Model:
    """Twelve equal rows, whose deviations from their mean are rounding and nothing else, divided by their spread."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((6, 8)), "v": rng.standard_normal((8, 5)), "tiny": np.array(1e-12)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["b"]),
        helper.make_node("Expand", ["b", "shape"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[0]),
        helper.make_node("Sub", ["c", "m"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["s"]),
        helper.make_node("Add", ["s", "tiny"], ["t"]),
        helper.make_node("Sqrt", ["t"], ["u"]),
        helper.make_node("Div", ["d", "u"], ["y"]),
    ]
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    weights.append(numpy_helper.from_array(np.array([12, 5]), "shape"))
    graph = helper.make_graph(
        nodes,
        "noise",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [12, 5])],
        weights,
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_a_right_removal_is_proved_to_the_last_places() -> None:
    for model in (conv_pair(), attention()):
        removal = half(model)
        proof = prove(removal, remove(removal), [], 0)
        assert proof.exact
        assert proof.passed
        assert proof.max_rel_diff < 1e-5
        assert proof.noisy == 0


def test_differences_that_are_all_rounding_are_forgiven_and_counted() -> None:
    removal = half(amplifies_rounding())
    proof = prove(removal, remove(removal), [], 0)
    assert proof.passed
    assert proof.max_rel_diff < 1e-4


@pytest.mark.parametrize("change", [0.001, 0.1])
def test_a_changed_weight_fails_and_the_operator_is_named(change: float) -> None:
    removal = half(conv_pair())
    wrong = remove(removal)
    wrong.weights["w2"] = np.asarray(wrong.weights["w2"] * (1 + change), dtype=np.float32)
    with pytest.raises(ProofFailed, match='Conv "second"'):
        prove(removal, wrong, [], 0)


def test_a_changed_weight_fails_even_where_rounding_is_amplified() -> None:
    removal = half(amplifies_rounding())
    wrong = remove(removal)
    wrong.weights["v"] = wrong.weights["v"][:, ::-1].copy()
    with pytest.raises(ProofFailed, match="MatMul"):
        prove(removal, wrong, [], 0)


def test_a_lost_channel_of_another_place_fails() -> None:
    """The right number of channels, but others."""
    removal = half(conv_pair())
    wrong = remove(removal)
    wrong.weights["w2"] = removal.coupling.original.weights["w2"][:, :6].copy()
    with pytest.raises(ProofFailed):
        prove(removal, wrong, [], 0)


def test_the_proof_model_is_a_valid_model_of_the_same_shape() -> None:
    from intaglio.graph.coupling import mask_removed
    from intaglio.graph.io.save import to_proto

    removal = half(attention())
    proto = to_proto(mask_removed(removal))
    onnx.checker.check_model(proto, full_check=True)
    assert {n.op_type for n in proto.graph.node} >= {n.op_type for n in removal.coupling.original.graph.node}
