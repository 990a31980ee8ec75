"""Networks of floats become binary ones, and these pack with equal predictions."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import Binarize, Train, load, run
from intaglio.graph.errors import NothingChanged, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session
from intaglio.passes.train import BINARY_OPERATORS, ESTIMATORS, METHODS
from intaglio.passes.train.binary.convert import binarized
from intaglio.passes.train.engine.signs import signs
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.methods.bits.attention import two_values
from intaglio.passes.train.weights import weights_to_train

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, VIT, TEST = (EXAMPLES / name for name in ("digits.onnx", "vit_digits.onnx", "digits_test.npz"))
SHORT: dict[str, Any] = {"batch": 32, "threads": 1, "bf16": False}
X = torch.linspace(-2, 2, 401)


def slope(spec: str, x: torch.Tensor, progress: float = 0.0, weights: bool = False) -> torch.Tensor:
    """The gradient that signs of x have."""
    x = x.clone().requires_grad_()
    made = signs(x, *ESTIMATORS[spec](x, progress, weights))
    torch.autograd.backward(made.sum())
    assert x.grad is not None
    return x.grad


def test_signs_have_no_third_value() -> None:
    made = signs(X, *ESTIMATORS["ste"](X, 0.0, False))
    assert torch.equal(made, torch.where(X < 0, -1.0, 1.0))
    assert float(made[200]) == 1


def test_gradients_of_signs_are_those_of_their_formulas() -> None:
    size = X.abs()
    assert torch.equal(slope("ste", X), (size <= 1).float())
    assert torch.equal(slope("identity", X), torch.ones_like(X))
    assert torch.allclose(slope("polynomial", X), torch.where(size < 1, 2 - 2 * size, 0.0), atol=1e-6)
    wave = slope("biper", X, weights=True)
    assert torch.allclose(wave, 20 * torch.cos(20 * X), atol=1e-4)


def test_the_rectified_estimator_starts_as_the_identity_and_grows_steep() -> None:
    inner = X[(X.abs() > 0.11) & (X.abs() < 1.49)]
    assert torch.allclose(slope("reste", inner, 0.0), torch.ones_like(inner))
    root = 3.0
    assert torch.allclose(slope("reste", inner, 1.0), inner.abs() ** ((1 - root) / root) / root, atol=1e-5)
    near = torch.tensor([0.05, -0.02])
    assert torch.allclose(slope("reste", near, 1.0), torch.full((2,), 0.1 ** (1 / 3) / 0.1), atol=1e-4)
    assert not slope("reste", torch.tensor([1.6, -1.7]), 1.0).any()


@pytest.mark.parametrize(("progress", "terms"), [(0.0, 10), (1.0, 19)])
def test_the_series_has_as_many_terms_as_told(progress: float, terms: int) -> None:
    inner = X[(X.abs() <= 1)]
    wanted = sum(4 * 0.1 / math.pi * torch.cos((2 * i + 1) * 0.1 * inner) for i in range(terms))
    assert torch.allclose(slope("fourier", inner, progress), torch.as_tensor(wanted), atol=1e-4)
    assert not slope("fourier", torch.tensor([1.1]), progress).any()


def scores(path: Path) -> np.ndarray:
    (found,) = run_session(open_session(path), {"image": np.load(TEST)["image"]}).values()
    return np.asarray(found)


def packed(path: Path, out: Path) -> dict[str, str]:
    """Writes the packed model; how each layer is computed."""
    report = run(path, Binarize(scheme="pack"), out=out, measure=False)
    return {one["name"]: one["scheme"] for one in report.as_dict()["layers"]}


@pytest.mark.parametrize("operator", sorted(BINARY_OPERATORS.builtin))
def test_a_network_of_floats_becomes_binary_and_packs_with_equal_predictions(operator: str, tmp_path: Path) -> None:
    out, small = tmp_path / "binary.onnx", tmp_path / "packed.onnx"
    options = {**SHORT, "steps": 8, "teacher": str(DIGITS), "operator": operator}
    run(DIGITS, Train(**options), data=str(TEST), out=out, measure=False)
    written = load(out)
    assert {o.domain for o in written.proto.opset_import} <= {"", "ai.onnx"}
    done = packed(out, small)
    assert len(done) == 7
    assert set(done.values()) <= {"bits to floats", "bits to bits"}
    assert np.array_equal(scores(out).argmax(1), scores(small).argmax(1))


@pytest.mark.parametrize("estimator", ["biper", "reste:end=2", "fourier"])
def test_any_estimator_serves_any_operator(estimator: str, tmp_path: Path) -> None:
    out = tmp_path / "binary.onnx"
    options = {**SHORT, "steps": 4, "teacher": str(DIGITS), "operator": "bireal", "estimator": estimator}
    run(DIGITS, Train(**options), data=str(TEST), out=out, measure=False)
    assert len(packed(out, tmp_path / "packed.onnx")) == 7


def test_what_is_trained_is_what_is_written() -> None:
    """Outputs in torch, with signs as nodes of our own, and in ONNX Runtime."""
    method, model = METHODS["bnn:operator=react"](), load(DIGITS)
    prepared = method.prepared(model, open_data(str(TEST), model))
    student = Student(prepared, weights_to_train(prepared), statistics=True, method=method)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in student.moving.values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=draw)
    method.before_step(student, 9, 10)
    images = np.load(TEST)["image"][:32]
    with torch.no_grad():
        wanted = student({"image": images})["logits"].numpy()
    written = student.written(student.state())
    (found,) = run_session(open_session(written), {"image": images}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    shortcuts = [node for node in written.graph.node if node.op_type == "Add" and "around" in node.input[0]]
    assert len(shortcuts) == 3, "around layers that keep or widen their channels and have no shortcut yet"


def test_weights_are_floats_in_the_first_stage_and_signs_in_the_second() -> None:
    method, model = METHODS["bnn:operator=xnor,first=0.5"](), load(DIGITS)
    prepared = method.prepared(model, open_data(str(TEST), model))
    student = Student(prepared, weights_to_train(prepared), statistics=False, method=method)
    name = "first.0.0.weight"
    scale = next(n for n in student.moving if n.endswith("/scale"))
    method.before_step(student, 0, 10)
    product = student.seen(name) * student.seen(scale).reshape(-1, 1, 1, 1)
    assert np.allclose(product.detach(), model.weights[name], atol=1e-6)
    method.before_step(student, 5, 10)
    assert set(student.seen(name).detach().numpy().reshape(-1).tolist()) == {-1.0, 1.0}
    sizes = np.abs(model.weights[name]).mean((1, 2, 3))
    assert np.allclose(student.seen(scale).flatten(), sizes)
    assert not method.done(0.5)
    assert method.done(0.6)


def test_products_of_a_transformer_become_binary(tmp_path: Path) -> None:
    out = tmp_path / "binary.onnx"
    options = {**SHORT, "steps": 3, "teacher": str(VIT), "operator": "react"}
    run(VIT, Train(**options), data=str(TEST), out=out, measure=False)
    assert "bits to floats" in packed(out, tmp_path / "packed.onnx").values()


def test_an_operator_goes_with_binary_networks_alone() -> None:
    with pytest.raises(UsageError, match="finetune takes no options"):
        run(DIGITS, Train(method="finetune", operator="react", steps=1), data=str(TEST), measure=False)


def test_a_network_of_short_rows_has_no_layer_to_be_binary() -> None:
    text = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3] x) => (float[N, 2] y) <float[3, 2] a = {1, 2, 3, 4, 5, 6}, float[2, 2] b = {1, 2, 3, 4}>
{
  h = MatMul (x, a)
  r = Relu (h)
  y = MatMul (r, b)
}
"""
    model = from_proto(onnx.parser.parse_model(text))
    with pytest.raises(NothingChanged, match="no layer can become binary"):
        binarized(model, BINARY_OPERATORS["bnn"])


def test_elastic_activations_learn_how_large_they_are(tmp_path: Path) -> None:
    """The gradient is that of learned steps: the sign less the number inside, the sign outside."""
    method, model = METHODS["bnn:operator=tbt,first=0"](), load(DIGITS)
    prepared = method.prepared(model, open_data(str(TEST), model))
    student = Student(prepared, weights_to_train(prepared), statistics=False, method=method)
    names = [name for name in student.own if name.startswith("elastic/")]
    assert len(names) == 7
    assert all(float(student.own[name].detach()) > 0 for name in names)
    torch.autograd.backward(student({"image": np.load(TEST)["image"][:8]})["logits"].sum())
    assert all(student.own[name].grad is not None for name in names)
    x, size = torch.tensor([-3.0, -0.5, 0.5, 3.0]), torch.tensor(2.0, requires_grad=True)
    near = x / size
    made = size * signs(near, *ESTIMATORS["ste"](near, 0.0, False))
    each = [torch.autograd.grad(one, size, retain_graph=True)[0].item() for one in made]
    assert each == pytest.approx([-1, -1 + 0.25, 1 - 0.25, 1])
    levels = student.seen("first.0.0.weight").detach()
    assert set(levels.numpy().reshape(-1).tolist()) == {-1.0, 0.0, 1.0}


def spread(student: Student) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in student.trained.values():
            tensor += 0.1 * tensor.abs().mean() * torch.randn(tensor.shape, generator=draw)


def test_salient_weights_are_the_same_bytes_and_the_others_two_levels() -> None:
    method, model = METHODS["pb:salient=0.2"](), load(DIGITS)
    student = Student(model, weights_to_train(model), statistics=False, method=method)
    spread(student)
    moved = {name: value.detach().clone() for name, value in student.moving.items()}
    written = student.written(student.state())
    for name in ("first.0.0.weight", "wide.0.weight"):
        salient = student.own[f"salient/{name}"].numpy().astype(bool)
        assert salient.mean() == pytest.approx(0.2, abs=0.01)
        result = written.weights[name]
        assert np.array_equal(result[salient], moved[name].numpy()[salient])
        for row, frozen in zip(result.reshape(len(result), -1), salient.reshape(len(result), -1), strict=True):
            assert len(np.unique(row[~frozen])) <= 2
    torch.autograd.backward(student.seen("wide.0.weight").sum())
    gradient = student.moving["wide.0.weight"].grad
    assert gradient is not None
    assert not gradient[student.own["salient/wide.0.weight"].bool()].any()


def test_two_planes_have_four_levels_a_filter() -> None:
    method, model = METHODS["binarydm"](), load(DIGITS)
    student = Student(model, weights_to_train(model), statistics=False, method=method)
    start = student.seen("first.0.0.weight").detach()
    weight = student.moving["first.0.0.weight"].detach()
    single = weight.sign() * weight.abs().mean((1, 2, 3), keepdim=True)
    assert (start - weight).square().mean() < 0.7 * (single - weight).square().mean()
    spread(student)
    result = student.written(student.state()).weights["wide.0.weight"]
    assert all(len(np.unique(row)) <= 4 for row in result.reshape(len(result), -1))


def test_attention_of_two_values_fits_rows_far_better_than_one_threshold() -> None:
    rows = torch.softmax(4 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)), -1)
    errors = [(two_values(rows, 0.25, n) - rows).square().sum(-1) for n in range(5)]
    for earlier, later in pairwise(errors):
        assert bool((later <= earlier + 1e-6).all()), "no round makes a row worse"
    of_signs = (torch.ones_like(rows) - rows).square().sum(-1)
    assert float(errors[1].mean()) < float(of_signs.mean()) / 100


def test_attention_in_the_file_is_what_was_trained(tmp_path: Path) -> None:
    method, model = METHODS["bivit"](), load(VIT)
    prepared = method.prepared(model, open_data(str(TEST), model))
    student = Student(prepared, weights_to_train(prepared), statistics=False, method=method)
    images = np.load(TEST)["image"][:16]
    with torch.no_grad():
        wanted = student({"image": images})["logits"].numpy()
    written = student.written(student.state())
    (found,) = run_session(open_session(written), {"image": images}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert sum(node.op_type == "GreaterOrEqual" for node in written.graph.node) == 4
    with pytest.raises(NothingChanged, match="no attention"):
        METHODS["bivit"]().prepared(load(DIGITS), open_data(str(TEST), load(DIGITS)))
