"""Training toward few ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import Factorize, Train, load, run
from intaglio.graph.errors import NothingChanged
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.passes.train import METHODS
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.methods.lowrank.matrices import as_matrix, as_weight, rank_of
from intaglio.passes.train.weights import weights_to_train

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, TEST, CALIB = (EXAMPLES / name for name in ("digits.onnx", "digits_test.npz", "digits_calib.npz"))
SHORT: dict[str, Any] = {"batch": 64, "threads": 1, "bf16": False}
INPUTS, OUTPUTS = 24, 20


def two_factors(ranks: int) -> Model:
    """A product of two matrices, random."""
    text = f"""
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, {INPUTS}] x) => (float[N, {OUTPUTS}] y) <float[{INPUTS}, {ranks}] a, float[{ranks}, {OUTPUTS}] b>
{{
  h = MatMul (x, a)
  y = MatMul (h, b)
}}
"""
    draw, proto = np.random.default_rng(0), onnx.parser.parse_model(text)
    for value, shape in zip(proto.graph.value_info, ((INPUTS, ranks), (ranks, OUTPUTS)), strict=True):
        array = draw.normal(size=shape).astype(np.float32) / 5
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del proto.graph.value_info[:]
    return from_proto(proto)


def started(spec: str, model: Model) -> tuple[Any, Student]:
    method = METHODS[spec]()
    return method, Student(model, weights_to_train(model), statistics=False, method=method)


def stepped(method: Any, student: Student, step: int, steps: int, x: np.ndarray, y: torch.Tensor) -> None:
    def gradients() -> float:
        loss = (student({"x": x}, training=True)["y"] - y).square().sum(1).mean()
        torch.autograd.backward(loss)
        return float(loss.detach())

    method.before_step(student, step, steps)
    gradients()
    method.on_gradients(student, step, steps, gradients)
    method.after_step(student, step, steps)


def test_the_rank_of_what_was_planted_is_found() -> None:
    draw = np.random.default_rng(1)
    planted = (draw.normal(size=(INPUTS, 5)) @ draw.normal(size=(5, OUTPUTS))).astype(np.float32) / 5
    method, student = started("dlrt:tolerance=0.02,rate=0.05", two_factors(16))
    for step in range(150):
        x = draw.normal(size=(64, INPUTS)).astype(np.float32)
        stepped(method, student, step, 300, x, torch.tensor(x @ planted))
    written = student.written(student.state())
    assert written.weights["a"].shape == (INPUTS, 5)
    assert written.weights["b"].shape == (5, OUTPUTS)
    found = written.weights["a"] @ written.weights["b"]
    assert np.linalg.norm(found - planted) < 0.02 * np.linalg.norm(planted)


def test_bases_stay_orthonormal() -> None:
    draw = np.random.default_rng(2)
    method, student = started("dlrt", two_factors(8))
    for step in range(5):
        x = draw.normal(size=(32, INPUTS)).astype(np.float32)
        stepped(method, student, step, 10, x, torch.zeros(32, OUTPUTS))
    (one,) = method.pairs
    for basis in (one.u, one.v):
        assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5)


def test_with_all_ranks_a_step_is_one_of_the_whole_matrix() -> None:
    draw = np.random.default_rng(3)
    model = two_factors(OUTPUTS)
    method, student = started("dlrt:tolerance=0.0000001,rate=0.1", model)
    x = draw.normal(size=(32, INPUTS)).astype(np.float32)
    y = torch.tensor(draw.normal(size=(32, OUTPUTS)).astype(np.float32))
    whole = torch.tensor(model.weights["a"] @ model.weights["b"], requires_grad=True)
    torch.autograd.backward((torch.tensor(x) @ whole - y).square().sum(1).mean())
    stepped(method, student, 0, 10, x, y)
    written = student.written(student.state())
    wanted = (whole - 0.1 * whole.grad).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(written.weights["a"] @ written.weights["b"], wanted, atol=1e-5)


def test_a_network_without_factors_is_refused() -> None:
    with pytest.raises(NothingChanged, match="no factors"):
        started("dlrt", load(DIGITS))


def test_ranks_of_a_factorized_network_fall_and_the_file_runs(tmp_path: Path) -> None:
    factors, out = tmp_path / "factors.onnx", tmp_path / "few.onnx"
    run(DIGITS, Factorize(target="macs", keep=0.7, measure=False), data=str(CALIB), out=factors, measure=False)
    options: dict[str, Any] = {**SHORT, "steps": 12, "teacher": str(DIGITS), "lr": 1e-3}
    method = "dlrt:tolerance=0.2,rate=0.01"
    report = run(factors, Train(method=method, **options), data=str(TEST), eval_data=str(TEST), out=out, measure=False)
    before, after = (sum(w.size for w in load(path).weights.values()) for path in (factors, out))
    assert after < before
    assert report.as_dict()["accuracy"]["after"]["top1"] > 0.9


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_a_kernel_is_a_matrix_and_back(scheme: Any) -> None:
    weight = torch.randn(5, 4, 3, 2)
    matrix = as_matrix(weight, scheme)
    assert tuple(matrix.shape) == ((5, 24) if scheme == "channel" else (12, 10))
    assert torch.equal(as_weight(matrix, weight, scheme), weight)


def test_ranks_hold_the_energy() -> None:
    values = torch.tensor([3.0, 2.0, 1.0, 0.0])
    assert [rank_of(values, share) for share in (0.5, 0.65, 0.95, 0.9999999)] == [1, 2, 3, 3]


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_what_is_left_of_training_has_few_ranks(scheme: str) -> None:
    report = run(
        DIGITS,
        Train(method=f"trp:scheme={scheme},energy=0.8,every=4", steps=10, lr=1e-4, teacher=str(DIGITS), **SHORT),
        data=str(TEST),
        measure=False,
    )
    result, seen = report.change.model, 0
    for name, before in load(DIGITS).weights.items():
        if before.ndim == 4 and min(before.shape[:2]) > 1:
            old, new = (
                torch.linalg.svdvals(as_matrix(torch.tensor(w), scheme))  # type: ignore[arg-type]
                for w in (before, result.weights[name])
            )
            rank = int((new > 1e-4 * new[0]).sum())
            assert rank < len(new), name
            assert rank <= rank_of(old, 0.9), name
            seen += 1
    assert seen == 7
