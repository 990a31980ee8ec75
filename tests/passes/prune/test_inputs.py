"""A criterion that needs to know what layers read is handed it, and what it cannot have is refused with a reason."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from intaglio.graph.coupling import Removal, analyse
from intaglio.graph.errors import IntaglioError, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.calibration.gradients import Gradient
from intaglio.passes.needs import NEEDS, check_needs
from intaglio.passes.prune.inputs import collected
from intaglio.passes.prune.weights import Member, Weights

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,6,6] x) => (float[N,5] y)
<float[8,3,3,3] a, float[8,4,1,1] b, float[5,128] c, float[5,5] d>
{
  first = Conv (x, a)
  grouped = Conv <group = 2> (first, b)
  flat = Flatten (grouped)
  rows = Gemm <transB = 1> (flat, c)
  turned = Transpose (d)
  y = MatMul (rows, turned)
}
"""
ALL = ("means", "variances", "second_moments", "activations")


@pytest.fixture
def model() -> Model:
    proto = parse_model(NET)
    random = np.random.default_rng(0)
    for value in list(proto.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        weight = random.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, value.name))
    del proto.graph.value_info[:]
    return from_proto(proto)


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(20, 3, 6, 6)).astype(np.float32) + 0.5}


@pytest.fixture
def source(images: dict[str, np.ndarray], model: Model, tmp_path: Path) -> DataSource:
    np.savez(tmp_path / "x.npz", **images)  # type: ignore[arg-type]
    return open_data(str(tmp_path / "x.npz"), model)


def members(model: Model, source: DataSource, needs: tuple[str, ...]) -> dict[str, Member]:
    """Those that read the channels of prunable groups, by their constants."""
    coupling = analyse(model)
    context = Context(data=source)
    weights = Weights(coupling, collected(coupling, needs, context))
    nothing = Removal(coupling, coupling.nothing())
    groups = [weights.group(k, nothing, 0) for k, group in enumerate(coupling.groups) if group.prunable]
    return {member.tensor: member for group in groups for member in group.having("in")}


def read(model: Model, images: dict[str, np.ndarray], tensor: str) -> np.ndarray:
    """Shapes: (positions, channels)."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.output.append(onnx.ValueInfoProto(name=tensor))
    value = np.asarray(run(open_session(Model(proto, model.weights)), images)[tensor], np.float64)
    return value.transpose(0, 2, 3, 1).reshape(-1, value.shape[1]) if value.ndim == 4 else value


def test_statistics_are_those_of_what_the_layer_reads(
    model: Model, images: dict[str, np.ndarray], source: DataSource
) -> None:
    found = members(model, source, ALL)
    assert found.keys() == {"b", "c", "turned"}, "a grouped, a flattened and a transposed weight"
    for name, tensor in (("c", "flat"), ("turned", "rows")):
        rows, inputs = read(model, images, tensor)[:, found[name].entries], found[name].inputs
        np.testing.assert_allclose(inputs.means, rows.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(inputs.variances, rows.var(0), rtol=1e-5)
        np.testing.assert_allclose(inputs.second_moments, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(inputs.activations, rows, rtol=1e-5, atol=1e-5)


def test_the_groups_of_a_grouped_convolution_are_averaged(
    model: Model, images: dict[str, np.ndarray], source: DataSource
) -> None:
    rows, inputs = read(model, images, "first"), members(model, source, ALL)["b"].inputs
    halves = [rows[:, :4], rows[:, 4:]]
    np.testing.assert_allclose(inputs.means, np.mean([h.mean(0) for h in halves], axis=0), rtol=1e-5)
    moments = np.mean([h.T @ h / len(h) for h in halves], axis=0)
    np.testing.assert_allclose(inputs.second_moments, moments, rtol=1e-4, atol=1e-5)


def test_what_was_not_declared_is_not_there(model: Model, source: DataSource) -> None:
    with pytest.raises(IntaglioError, match="did not say that it needs") as caught:
        _ = members(model, source, ("means",))["c"].inputs.second_moments
    assert 'needs=("second_moments",)' in caught.value.fix


@pytest.mark.parametrize("need", sorted(NEEDS))
def test_without_data_nothing_can_be_handed_over(need: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_needs("criterion x", (need,), Context())
    assert caught.value.why
    assert "--data" in caught.value.fix


def test_without_torch_gradients_are_refused(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="criterion x needs torch, which is not installed") as caught:
        check_needs("criterion x", ("gradients",), Context(data=source))
    assert "pip install 'intaglio[torch]'" in caught.value.fix
    check_needs("criterion x", ("means",), Context(data=source))


def test_gradients_lie_beside_the_weights_that_stay(model: Model) -> None:
    """Also where columns of another group went in an earlier step."""
    random = np.random.default_rng(2)
    both = {n: Gradient(random.normal(size=w.shape), random.random(w.shape)) for n, w in model.weights.items()}
    weights = {name: np.asarray(gradient.mean) for name, gradient in both.items()}
    coupling = analyse(Model(model.proto, weights))
    removal = Removal(coupling, coupling.nothing())
    removal.removed[coupling.groups[0].atoms[:2]] = True
    seen = Weights(coupling, gradients=both)
    members = [m for k in range(len(coupling.groups)) for m in seen.group(k, removal, 0).members]
    assert members
    for member in members:
        assert np.array_equal(member.rows, member.gradients)
        assert member.squared_gradients.shape == member.rows.shape
    with pytest.raises(IntaglioError, match="did not say that it needs"):
        _ = Weights(coupling).group(0, removal, 0).members[0].gradients
