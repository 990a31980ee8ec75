"""Distillation block by block, and losses that look at doubt and directions."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import load
from intaglio.passes.train import LOSSES, METHODS, Answers
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.methods.blockwise import bottlenecks
from intaglio.passes.train.weights import weights_to_train

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.onnx"


def test_blocks_end_where_one_tensor_is_all_that_is_read() -> None:
    model = load(DIGITS)
    found = bottlenecks(model)
    makers = {node.output[0]: node for node in model.graph.node}
    assert len(found) == 6
    assert not any(name.startswith("/first/first.0") for name in found), "inside a residual block two tensors are open"
    for name in found:
        place = list(makers).index(name)
        later = list(makers.values())[place + 1 :]
        outside = {i for node in later for i in node.input} & set(list(makers)[: place + 1])
        assert outside == {name}


def test_one_block_moves_after_the_other_then_all() -> None:
    method, model = METHODS["blockwise:together=0.25"](), load(DIGITS)
    ends = list(method.features(model))
    student = Student(model, weights_to_train(model), statistics=False, method=method, features=ends)
    turns = []
    for step in range(16):
        for value in student.moving.values():
            value.grad = torch.ones_like(value)
        method.on_gradients(student, step, 16, lambda: 0.0)
        turns.append({name for name, value in student.moving.items() if value.grad is not None})
    assert turns[0] == {name for name in student.moving if name.startswith("stem")}
    assert all(turn == set(student.moving) for turn in turns[12:])
    assert set().union(*turns[:12]) <= set(student.moving)
    assert "head.weight" not in set().union(*turns[:12]), "the last block learns with all others"


def test_a_block_is_held_to_its_own_output() -> None:
    method, model = METHODS["blockwise"](), load(DIGITS)
    ends = list(method.features(model))
    given = {name: torch.randn(4, 3, generator=torch.Generator().manual_seed(k)) for k, name in enumerate(ends)}
    same = Answers({}, {}, None, None, False, features=given, inner=given)
    assert float(method.loss(None, same, 0.0)) == 0  # type: ignore[arg-type]
    others = {**given, ends[0]: given[ends[0]] + 1}
    apart = Answers({}, {}, None, None, False, features=others, inner=given)
    assert float(method.loss(None, apart, 0.0)) > 0  # type: ignore[arg-type]
    assert float(method.loss(None, apart, 0.3)) == 0  # type: ignore[arg-type]
    assert method.loss(None, apart, 0.9) is None


def test_samples_in_doubt_count_more() -> None:
    sure, doubtful = [9.0, 0.0, 0.0], [1.0, 0.9, 0.8]
    teacher = torch.tensor([sure, doubtful])
    ours = torch.zeros(2, 3, requires_grad=True)
    answers = Answers({"y": ours}, {"y": teacher}, None, "y", False)
    plain, aware = (LOSSES[spec](answers) for spec in ("dad:power=0,temperature=4", "dad:power=2,temperature=4"))
    assert plain.item() == pytest.approx(LOSSES["kd:temperature=4"](answers).item(), rel=1e-5)
    first, second = (torch.autograd.grad(loss, ours, retain_graph=True)[0].norm(dim=1) for loss in (plain, aware))
    assert second[1] / second[0] > first[1] / first[0]


def test_mimicking_looks_at_the_directions_that_say_most() -> None:
    draw = torch.Generator().manual_seed(0)
    theirs = torch.randn(200, 8, generator=draw) * torch.tensor([5.0, 4.0, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])
    along, across = (torch.zeros(8) for _ in range(2))
    along[0], across[5] = 1.0, 1.0

    def loss(shift: torch.Tensor) -> float:
        answers = Answers({}, {}, None, None, False, features={"f": theirs + shift}, inner={"f": theirs})
        return float(LOSSES["lrm:share=0.25"](answers))

    assert loss(torch.zeros(8)) == 0
    assert loss(along) > 1000 * loss(across)
