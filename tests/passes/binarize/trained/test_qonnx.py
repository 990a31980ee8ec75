"""QONNX's form of signs is read and written; its operator is run by its published definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.qonnx import DOMAIN, from_qonnx, has_bipolar_quant
from intaglio.passes.binarize.trained.recognize import recognize

from ..binary_graphs import SIGNS, Graph, Net, nets, signs, small


class BipolarQuant(OpRun):
    """The scale where x >= 0, else minus the scale."""

    op_domain = DOMAIN

    def _run(self, x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray]:
        return ((np.where(x >= 0, 1, -1) * scale).astype(x.dtype),)


def by_definition(model: Model, x: np.ndarray) -> np.ndarray:
    evaluator: Any = ReferenceEvaluator(to_proto(model), new_ops=[BipolarQuant])
    return np.asarray(evaluator.run(None, {"x": x})[0])


def run_x(model: Model, x: np.ndarray) -> np.ndarray:
    return next(iter(run(open_session(model, optimize=False), {"x": x}).values()))


def trained(scale: float = 1.0) -> tuple[Model, np.ndarray]:
    """A network as QONNX tools export it: float weights behind BipolarQuant, activations too."""
    g = Graph(np.random.default_rng(0))

    def bipolar(x: str, by: float) -> str:
        return g.node("BipolarQuant", x, g.constant(by), domain=DOMAIN)

    w = g.constant(g.rng.standard_normal((16, 9, 3, 3)))
    y = g.node("Conv", bipolar("x", 1.0), bipolar(w, scale), pads=[1, 1, 1, 1])
    y = g.node("Mul", g.node("Add", y, g.constant(small(g.rng, 16, 1, 1))), g.constant(0.5))
    z = g.node("Conv", bipolar(y, scale), bipolar(g.constant(g.rng.standard_normal((4, 16, 1, 1))), 1.0))
    proto = helper.make_model(
        helper.make_graph(
            g.nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 9, 6, 6])],
            [helper.make_tensor_value_info(z, onnx.TensorProto.FLOAT, None)],
            g.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)],
        ir_version=9,
    )
    return from_proto(proto), g.rng.integers(-9, 9, (2, 9, 6, 6)).astype(np.float32) / 4


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_network_in_qonnx_is_packed(scale: float) -> None:
    model, x = trained(scale)
    standard = from_qonnx(model)
    assert not has_bipolar_quant(standard)
    assert all(o.domain != DOMAIN for o in standard.proto.opset_import)
    np.testing.assert_array_equal(run_x(standard, x), by_definition(model, x))
    lowered = lower(recognize(standard))
    assert [n.op_type for n in lowered.model.graph.node] == ["BitPack", "BConvBits", "BConv"]
    np.testing.assert_array_equal(run_x(lowered.model, x), by_definition(model, x))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets())
def test_what_is_written_in_qonnx_computes_the_same_and_is_read_again(net: Net) -> None:
    found = recognize(net.model)
    written = lower(found, "qonnx").model
    assert has_bipolar_quant(written)
    assert {(o.domain, o.version) for o in written.proto.opset_import} == {("", 17), (DOMAIN, 1)}
    np.testing.assert_allclose(by_definition(written, net.x), run_x(net.model, net.x), rtol=1e-5, atol=1e-5)
    again = recognize(from_qonnx(written))
    assert sum(one.bits is not None for one in again.layers.values()) == net.layers
    np.testing.assert_array_equal(run_x(lower(again).model, net.x), run_x(net.model, net.x))


def test_a_model_without_it_is_left_alone() -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(["N", 9, 5, 5], g.node("Conv", SIGNS["where_below"](g, "x"), g.constant(signs(g.rng, 8, 9, 3, 3))))
    assert from_qonnx(model) is model
