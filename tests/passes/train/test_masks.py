"""Methods that find out which weights may go: what holds of masks, whatever is learned."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import Train, load, run
from intaglio.passes.masks import masks
from intaglio.passes.train import METHODS, Answers
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.methods.masks.masked import kept, prunable
from intaglio.passes.train.weights import weights_to_train

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"


def made(spec: str) -> tuple[Any, Student]:
    method, model = METHODS[spec](), load(DIGITS)
    return method, Student(model, weights_to_train(model), statistics=False, method=method)


def density(student: Student) -> float:
    weights = prunable(student).values()
    return sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def shaken(student: Student, draw: torch.Generator) -> None:
    """A step in a random direction."""
    with torch.no_grad():
        for tensor in student.trained.values():
            tensor += 0.02 * torch.randn(tensor.shape, generator=draw)
    student.settle()


def logits(student: Student) -> torch.Tensor:
    images = np.load(TEST)["image"][:16]
    with torch.no_grad():
        return student({"image": images})["logits"]


@pytest.mark.parametrize("layers", ["global", "uniform"])
def test_masks_keep_the_share_to_the_number_and_some_of_each_layer(layers: Any) -> None:
    scores = {"a": torch.rand(10, 10), "b": 1e-6 * torch.rand(30, 10), "c": torch.rand(7)}
    masks = kept(scores, 0.3, layers)
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    assert min(counts.values()) >= 1
    assert all(mask.shape == scores[name].shape for name, mask in masks.items())
    assert sum(counts.values()) == round(0.3 * 407)
    assert (counts["b"] == 90) == (layers == "uniform")
    assert all(bool(scores[n][~m].numel() == 0 or scores[n][m].min() > scores[n][~m].max()) for n, m in masks.items())


def test_gradual_pruning_follows_its_curve_at_each_step() -> None:
    method, student = made("gmp:density=0.1,until=0.5")
    draw = torch.Generator().manual_seed(0)
    before: dict[str, torch.Tensor] = {}
    for step in range(20):
        shaken(student, draw)
        method.after_step(student, step, 20)
        wanted = 1 - 0.9 * (1 - (1 - min(1.0, (step + 1) / 10)) ** 3)
        assert density(student) == pytest.approx(wanted, abs=1e-4)
        now = {name: mask.clone() for name, mask in student.masks.items()}
        assert all(not (now[name] & ~mask).any() for name, mask in before.items())
        before = now
    assert method.done(0.5)
    assert not method.done(0.4)


def tickets(spec: str, steps: int) -> tuple[Student, list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The masks behind each part of training, and what weights were rewound to."""
    method, student = made(spec)
    draw, found = torch.Generator().manual_seed(0), []
    start: dict[str, torch.Tensor] = {}
    for step in range(steps):
        method.before_step(student, step, steps)
        start = start or {name: value.detach().clone() for name, value in student.moving.items()}
        shaken(student, draw)
        method.after_step(student, step, steps)
        if student.forgets:
            student.forgets = False
            found.append({name: mask.clone() for name, mask in student.masks.items()})
            for name, value in student.moving.items():
                mask = student.masks.get(name, torch.ones(()))
                assert torch.equal(value.detach(), start[name] * mask), "survivors are what they were, bit for bit"
    return student, found, start


@pytest.mark.parametrize(
    ("spec", "steps", "there"),
    [("imp:rounds=3,drop=0.2,rewind=0", 12, [0.8, 0.64, 0.512]), ("ap:rounds=2,drop=0.2,rewind=0", 12, [0.8, 0.64])],
)
def test_masks_of_tickets_are_nested_and_survivors_are_rewound(spec: str, steps: int, there: list[float]) -> None:
    _, found, _ = tickets(spec, steps)
    shares = [sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values()) for masks in found]
    assert shares == pytest.approx(there, abs=1e-3)
    for earlier, later in pairwise(found):
        assert all(not (later[name] & ~mask).any() for name, mask in earlier.items())


def test_what_goes_first_of_negative_weights_moved_least() -> None:
    method, student = made("ap:rounds=1,drop=0.05,negative=0.05,rewind=0")
    draw = torch.Generator().manual_seed(0)
    method.before_step(student, 0, 2)
    first = {name: value.detach().clone() for name, value in prunable(student).items()}
    shaken(student, draw)
    moved = {name: (value.detach() - first[name]).abs() for name, value in prunable(student).items()}
    negative = {name: value.detach() < 0 for name, value in prunable(student).items()}
    masks = method.chosen(student, 0)
    gone = torch.cat([(~masks[name]).flatten() for name in masks])
    able = torch.cat([negative[name].flatten() for name in masks])
    how = torch.cat([moved[name].flatten() for name in masks])
    assert able[gone].float().mean() > 0.99
    assert how[gone].max() <= how[able & ~gone].quantile(0.1)


def test_tickets_start_from_a_file_of_the_untrained_network(tmp_path: Path) -> None:
    untrained = load(DIGITS).copy()
    for name, value in untrained.weights.items():
        if value.ndim > 1:
            untrained.put(name, (0.5 * value).astype(np.float32))
    from intaglio.graph.io.save import save

    save(untrained, tmp_path / "init.onnx")
    _, student = made(f'imp:init="{tmp_path / "init.onnx"}"')
    assert all(
        np.array_equal(value.detach().numpy(), untrained.weights[name]) for name, value in prunable(student).items()
    )


def test_overlapping_tickets_keep_what_both_halves_of_the_classes_keep() -> None:
    method, student = made("colt:rounds=1,drop=0.3,rewind=0")
    draw, parts = torch.Generator().manual_seed(0), []
    for step in range(6):
        method.before_step(student, step, 6)
        shaken(student, draw)
        if step in (1, 3):
            parts.append(method.largest(student))
        method.after_step(student, step, 6)
    for name, mask in student.masks.items():
        assert torch.equal(mask, parts[0][name] & parts[1][name])
    labels = torch.arange(10).repeat(3)
    scores = torch.eye(10)[labels]
    given = Answers({"y": scores}, {"y": scores}, labels, "y", False)
    seen = [method.judged(given, progress).labels.unique().tolist() for progress in (0.0, 0.4, 0.9)]
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], list(range(10))]


@pytest.mark.parametrize("spec", ["jackpot:density=0.3", "edge-popup:density=0.3"])
def test_weights_are_the_same_before_and_behind_what_is_learned_of_them(spec: str) -> None:
    method, student = made(spec)
    before = {name: value.detach().clone() for name, value in prunable(student).items()}
    draw = torch.Generator().manual_seed(0)
    first = {name: student.seen(name).detach() != 0 for name in before}
    for step in range(4):
        shaken(student, draw)
        method.after_step(student, step, 4)
    assert all(torch.equal(student.moving[name], value) for name, value in before.items())
    seen = {name: student.seen(name).detach() for name in before}
    there = sum(int(v.count_nonzero()) for v in seen.values()) / sum(v.numel() for v in seen.values())
    assert there == pytest.approx(0.3, abs=1e-3)
    assert all(torch.equal(v[v != 0], before[name][v != 0]) for name, v in seen.items())
    assert any(not torch.equal(first[name], v != 0) for name, v in seen.items())


def test_scores_get_the_gradient_of_all_weights() -> None:
    _, student = made("jackpot:density=0.3")
    name = next(iter(prunable(student)))
    torch.autograd.backward(student.seen(name).sum())
    gradient = student.own[f"score/{name}"].grad
    assert gradient is not None
    assert torch.allclose(gradient, student.moving[name].detach())


def test_recycled_weights_leave_the_outputs_alone() -> None:
    method, student = made("edge-popup:density=0.3,share=0.4")
    before, weights = logits(student), {n: v.detach().clone() for n, v in prunable(student).items()}
    method.recycled(student)
    changed = sum(int((v.detach() != weights[n]).sum()) for n, v in prunable(student).items())
    assert changed > 1000
    assert torch.equal(logits(student), before)


def test_gates_are_drawn_in_training_and_stand_still_otherwise() -> None:
    method, student = made("gumbel")
    name = next(iter(prunable(student)))
    with torch.no_grad():
        student.own[f"gate/{name}"].view(-1)[:5] = -1.0
    once, twice = (student.seen(name).detach() for _ in range(2))
    assert torch.equal(once, twice)
    assert int((once == 0).sum()) == 5
    student.training = True
    assert not torch.equal(student.seen(name), student.seen(name))
    method.before_step(student, 3, 10)
    first = student.seen(name).detach()
    method.before_step(student, 3, 10)
    assert torch.equal(student.seen(name), first), "a step draws the same when it is taken again"


def test_removed_weights_come_back_as_often_as_told() -> None:
    method, student = made("ssa:density=0.2,chance=0.5,until=0.8")
    name = max(prunable(student), key=lambda n: student.moving[n].numel())
    gone = student.own[f"there/{name}"] == 0
    student.training = True
    for step, chance in ((0, 0.5), (4, 0.25), (8, 0.0)):
        method.before_step(student, step, 10)
        back = (student.seen(name)[gone] != 0).float().mean()
        assert float(back) == pytest.approx(chance, abs=0.02)
        assert torch.equal(student.seen(name)[~gone], student.moving[name][~gone])


def test_the_smallest_weights_shrink_and_go_late() -> None:
    method, student = made("issp:density=0.4,until=0.5,shrink=0.9")
    before = {name: value.detach().clone() for name, value in prunable(student).items()}
    small = {name: ~mask for name, mask in kept({n: v.abs() for n, v in before.items()}, 0.4).items()}
    method.after_step(student, 0, 10)
    for name, value in prunable(student).items():
        assert torch.allclose(value[small[name]], 0.9 * before[name][small[name]])
        assert torch.equal(value[~small[name]], before[name][~small[name]])
    for step in range(1, 10):
        method.after_step(student, step, 10)
    assert density(student) == pytest.approx(0.4, abs=1e-3)


def test_weights_that_the_loss_feels_do_not_decay() -> None:
    method, student = made("irrelevant:density=0.5,decay=0.1")
    name = next(iter(prunable(student)))
    weight = student.moving[name]
    weight.grad = torch.zeros_like(weight)
    weight.grad.view(-1)[0] = 5.0
    before = weight.detach().clone()
    method.on_gradients(student, 0, 100, lambda: 0.0)
    method.after_step(student, 0, 100)
    ratio = (weight.detach() / before).flatten()
    assert float(ratio[0]) == 1
    assert torch.allclose(ratio[1:], torch.full_like(ratio[1:], 0.9))


def test_a_closed_gate_makes_a_channel_that_does_nothing() -> None:
    """A layer's row, and what the normalization behind it scales and shifts with, are zero together."""
    method, student = made("continuous")
    gates = [name for name in student.own if name.startswith("gate/")]
    with torch.no_grad():
        student.own[gates[0]][:3] = -0.5
    written = student.written(student.state())
    node = next(n for n in written.graph.node if n.output[0] == gates[0].removeprefix("gate/"))
    behind = next(n for n in written.graph.node if n.input[0] == node.output[0])
    for name in (node.input[1], *behind.input[1:3]):
        value = written.weights[name]
        assert not value[:3].any()
        assert np.array_equal(value[3:], load(DIGITS).weights[name][3:])
    assert method.hardness(0) == 1
    assert method.hardness(1) == pytest.approx(200)


@pytest.mark.parametrize("spec", ["imp:rounds=1", "irrelevant:density=0.5", "edge-popup"])
def test_a_run_gives_the_sparse_weights_that_it_promises(spec: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch": 32, "threads": 1, "bf16": False, "steps": 12, "teacher": str(DIGITS)}
    report = run(DIGITS, Train(method=spec, **options), data=str(TEST), out=tmp_path / "sparse.onnx", measure=False)
    weights = [report.change.model.weights[one["name"]] for one in report.as_dict()["weights"]]
    matrices = [w for w in weights if w.ndim > 1]
    there = sum(np.count_nonzero(w) for w in matrices) / sum(w.size for w in matrices)
    assert there == pytest.approx(0.8 if "imp" in spec else 0.5, abs=1e-3)
    told = masks(load(tmp_path / "sparse.onnx"))
    assert told.keys() == {one["name"] for one in report.as_dict()["weights"] if len(one["shape"]) > 1}
