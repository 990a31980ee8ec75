"""Training moves weights toward what is asked for, and leaves all else as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import Binarize, PruneChannels, Quantize, Train, compress, load, run
from intaglio.graph.coupling import Coupling, Removal, analyse
from intaglio.graph.errors import BadData, IntaglioError, NothingChanged, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.graph.registry import Entry
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session
from intaglio.passes.prune.weights import Weights
from intaglio.passes.train.augmentations.augmentation import AUGMENTATIONS, Augmented
from intaglio.passes.train.engine import loop
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.features import kept_channels, shared_features
from intaglio.passes.train.losses.loss import LOSSES, Answers
from intaglio.passes.train.methods.method import METHODS, Method
from intaglio.passes.train.weights import weights_to_train

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, VIT = EXAMPLES / "digits.onnx", EXAMPLES / "vit_digits.onnx"
TEST, CALIB = EXAMPLES / "digits_test.npz", EXAMPLES / "digits_calib.npz"
SHORT: dict[str, Any] = {"batch": 32, "threads": 1, "bf16": False}


def trained(model: Model | Path, out: Path | None = None, data: Any = TEST, **options: Any) -> Any:
    return run(model, Train(**{**SHORT, **options}), data=str(data), out=out, measure=False)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with half of their channels, which lost much."""
    path = tmp_path_factory.mktemp("narrow") / "narrow.onnx"
    run(DIGITS, PruneChannels(target="macs", keep=0.12, criterion="l1"), out=path, measure=False)
    return path


def accuracy(path: Path) -> float:
    data = np.load(TEST)
    session = open_session(path)
    (name,) = (one.name for one in session.get_inputs())
    (x,) = (data[key] for key in data.files if data[key].ndim == 4)
    (labels,) = (data[key] for key in data.files if data[key].ndim == 1)
    (scores,) = run_session(session, {name: x}).values()
    return float((scores.argmax(1) == labels).mean())


@pytest.mark.parametrize("how", [{"teacher": str(DIGITS)}, {}], ids=["distilled", "with labels"])
def test_what_pruning_lost_is_won_back(narrow: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    out = tmp_path / "trained.onnx"
    report = trained(narrow, out, steps=60, lr=3e-3, **how)
    assert accuracy(out) > accuracy(narrow) + 0.02
    told = report.as_dict()["training"]
    assert told["held_back_after"] < told["held_back_before"]
    assert told["labels"] == (not how)


def test_the_graph_stays_what_it_was(narrow: Path, tmp_path: Path) -> None:
    out = tmp_path / "trained.onnx"
    trained(narrow, out, steps=5, teacher=str(DIGITS))
    before, after = load(narrow), load(out)
    assert list(before.graph.node) == list(after.graph.node)
    assert {n: w.shape for n, w in before.weights.items()} == {n: w.shape for n, w in after.weights.items()}


def test_the_same_seed_gives_the_same_bytes(narrow: Path) -> None:
    first, second = (to_bytes(trained(narrow, steps=5, teacher=str(DIGITS)).change.model) for _ in range(2))
    assert first == second


def test_only_what_is_included_moves(narrow: Path) -> None:
    model = load(narrow)
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    report = trained(narrow, steps=5, teacher=str(DIGITS), include=(layers[0].name or layers[0].output[0],))
    moved = {n for n, w in report.change.model.weights.items() if not np.array_equal(w, model.weights[n])}
    assert moved
    assert moved <= set(layers[0].input)


def test_zeros_of_a_mask_stay_zero() -> None:
    model = load(DIGITS)
    masks = {}
    for one in weights_to_train(model):
        weight = model.weights[one.name]
        if weight.ndim > 1:
            masks[one.name] = abs(weight) < np.quantile(abs(weight), 0.85)
            model.put(one.name, np.where(masks[one.name], np.float32(0), weight))
    result = trained(model, steps=12, teacher=str(DIGITS), lr=1e-3).change.model
    assert all(not result.weights[name][mask].any() for name, mask in masks.items())
    assert all((result.weights[name] != model.weights[name])[~mask].any() for name, mask in masks.items())


SMALL: list[Any] = [Quantize(scheme=name) for name in ("int8", "w8", "w4", "w3", "w2", "w4a4")]
SMALL += [Binarize(scheme=name, force=True) for name in ("xnor", "planes", "twn", "residual", "dbllm")]
SMALL += [
    Binarize(scheme="planes", force=True, include_first_last=True, activations="int8"),
]


@pytest.mark.parametrize("made", SMALL, ids=[f"{one.scheme}{k}" for k, one in enumerate(SMALL)])
def test_integers_stay_integers_of_their_bits(made: Any, tmp_path: Path) -> None:
    """Weights move by whole steps, and the file computes what torch computed."""
    path = tmp_path / "small.onnx"
    run(DIGITS, made, data=str(CALIB), out=path, measure=False, force=True)
    model = load(path)
    student = Student(model, weights_to_train(model), statistics=False, method=METHODS["lsq"]())
    assert len(student.codes) >= 4
    assert student.own
    untouched = student.written(student.state())
    assert all(np.array_equal(untouched.weights[name], weight) for name, weight in model.weights.items())
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in student.own.values():
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=draw))
        for tensor in student.moving.values():
            tensor.add_(0.2 * tensor.abs().mean() * torch.randn(tensor.shape, generator=draw))
    student.settle()
    written = student.written(student.state())
    assert {n: (w.dtype, w.shape) for n, w in written.weights.items()} == {
        n: (w.dtype, w.shape) for n, w in model.weights.items()
    }
    with np.load(TEST) as data:
        image = next(data[key][:8] for key in data.files if data[key].ndim == 4).astype(np.float32)
    feed = {model.graph.input[0].name: image}
    ours, theirs = student(feed), run_session(open_session(written, optimize=False), feed)
    for name, value in theirs.items():
        apart = abs(value - ours[name].detach().numpy())
        assert np.median(apart) <= 1e-5 * abs(value).max()  # a rounding that fell the other way moves single answers
    before = run_session(open_session(model, optimize=False), feed)
    assert all(abs(before[name] - value).max() > 1e-3 for name, value in theirs.items())


def test_a_network_of_few_bits_is_trained(tmp_path: Path) -> None:
    path, out = tmp_path / "w2.onnx", tmp_path / "trained.onnx"
    run(DIGITS, Quantize(scheme="w2"), data=str(CALIB), out=path, measure=False, force=True)
    trained(path, out, steps=40, teacher=str(DIGITS))
    assert accuracy(out) >= accuracy(path)
    assert abs(out.stat().st_size - path.stat().st_size) < 1000


@pytest.mark.parametrize(
    "options",
    [
        {"teacher": str(DIGITS)},
        {"teacher": str(DIGITS), "ema": 0.9},
        {"method": "anchored", "lr": 3e-4},
        {"optimizer": "sgd"},
    ],
    ids=["distilled", "mean of weights", "anchored", "sgd"],
)
def test_training_goes_on_from_where_it_stopped(
    narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    whole = trained(narrow, steps=12, **options)
    file = tmp_path / "state.npz"
    real, taken = loop._one, 0

    def stops(*args: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == 8:
            raise RuntimeError("the power went")
        real(*args)

    monkeypatch.setattr(loop, "_one", stops)
    with pytest.raises(RuntimeError, match="power"):
        trained(narrow, steps=12, checkpoint=str(file), **options)
    monkeypatch.setattr(loop, "_one", real)
    again = trained(narrow, steps=12, checkpoint=str(file), **options)
    assert to_bytes(again.change.model) == to_bytes(whole.change.model)
    with pytest.raises(UsageError, match="another training"):
        trained(narrow, steps=13, checkpoint=str(file), **options)


class Gated(Method):
    """Trains a gate for each filter of each kernel, masks the rest of the weight, and leaves biases alone."""

    losses = ("kd",)

    def start(self, student: Student) -> None:
        for name, tensor in student.moving.items():
            if tensor.ndim > 1:
                student.add(f"gate {name}", torch.ones(len(tensor), *[1] * (tensor.ndim - 1)), pace=10.0)
                student.masks[name] = torch.ones_like(tensor, dtype=torch.bool)
        student.freeze(name for name, tensor in student.moving.items() if tensor.ndim == 1)

    def seen(self, student: Student, name: str, value: torch.Tensor) -> torch.Tensor:
        gate = student.own.get(f"gate {name}")
        return value if gate is None else gate * value

    def on_gradients(self, student: Student, step: int, steps: int, again: Any) -> None:
        before = [tensor.grad.numpy().copy() for tensor in student.parameters if tensor.grad is not None]
        again()
        after = [tensor.grad.numpy() for tensor in student.parameters if tensor.grad is not None]
        assert all(np.array_equal(*each) for each in zip(before, after, strict=True))

    def after_round(self, student: Student, step: int, steps: int) -> None:
        for name, mask in student.masks.items():
            mask &= student.moving[name].detach().abs() > 0.02
        student.forgets = True


def test_a_method_may_gate_mask_and_freeze(narrow: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And goes on from a checkpoint, in the middle of a round, to the same bytes."""
    monkeypatch.setitem(METHODS._found, "gated", Entry(Gated, __name__))
    options: dict[str, Any] = {"steps": 24, "method": "gated", "teacher": str(DIGITS)}
    whole = trained(narrow, **options).change.model
    old = load(narrow)
    for one in weights_to_train(old):
        before, after = old.weights[one.name], whole.weights[one.name]
        assert np.array_equal(before, after) == (before.ndim == 1)
    assert any(((whole.weights[name] == 0) & (weight != 0)).any() for name, weight in old.weights.items())
    file, real = tmp_path / "state.npz", loop._one

    def stops(lesson: Any, optimizer: Any, state: Any) -> None:
        if state.step == 17:
            raise RuntimeError("the power went")
        real(lesson, optimizer, state)

    monkeypatch.setattr(loop, "_one", stops)
    with pytest.raises(RuntimeError, match="power"):
        trained(narrow, checkpoint=str(file), **options)
    monkeypatch.setattr(loop, "_one", real)
    assert to_bytes(trained(narrow, checkpoint=str(file), **options).change.model) == to_bytes(whole)


def test_other_data_do_not_go_on(narrow: Path, tmp_path: Path) -> None:
    """Under the same name, too."""
    file, data = tmp_path / "state.npz", tmp_path / "data.npz"
    with np.load(TEST) as held:
        arrays = dict(held)
    np.savez(data, **arrays)
    trained(narrow, data=data, steps=4, lr=3e-4, teacher=str(DIGITS), checkpoint=str(file))
    np.savez(data, **{name: values[::-1] for name, values in arrays.items()})
    with pytest.raises(UsageError, match="another training"):
        trained(narrow, data=data, steps=4, lr=3e-4, teacher=str(DIGITS), checkpoint=str(file))


def test_an_interruption_keeps_the_best_weights(narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, out = loop._one, tmp_path / "out.onnx"

    def interrupted(lesson: Any, optimizer: Any, state: Any) -> None:
        if state.step == 7:
            raise KeyboardInterrupt
        real(lesson, optimizer, state)

    monkeypatch.setattr(loop, "_one", interrupted)
    told = trained(narrow, out, steps=12, teacher=str(DIGITS)).as_dict()
    assert told["training"]["interrupted"]
    assert any("interrupted after 7 of 12 steps" in note for note in told["notes"])
    assert accuracy(out) > accuracy(narrow)
    with pytest.raises(KeyboardInterrupt):
        trained(narrow, tmp_path / "none.onnx", steps=12, teacher=str(DIGITS), keep_best=False)
    assert not (tmp_path / "none.onnx").exists()


def test_a_batch_that_memory_does_not_hold_is_taken_in_parts(narrow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients are the same, but for rounding and for statistics of smaller batches, which are left here."""
    whole = trained(narrow, steps=6, teacher=str(DIGITS), freeze_bn=True)
    real = loop.Lesson.loss

    def full(self: Any, places: np.ndarray, *args: Any, training: bool, **more: Any) -> Any:
        if training and len(places) > 8:
            raise MemoryError
        return real(self, places, *args, training=training, **more)

    monkeypatch.setattr(loop.Lesson, "loss", full)
    parts = trained(narrow, steps=6, teacher=str(DIGITS), freeze_bn=True)
    assert any("taken in 4 parts" in note for note in parts.change.notes)
    for name, weight in whole.change.model.weights.items():
        np.testing.assert_allclose(parts.change.model.weights[name], weight, atol=2e-3)


@pytest.mark.parametrize("batch", [1, 4])
def test_models_of_a_fixed_batch_are_trained(batch: int, tmp_path: Path) -> None:
    """Samples of one run depend on each other, so that it cannot be made to take more."""
    random = np.random.default_rng(3)
    wanted = random.normal(size=(6, 3)).astype(np.float32)
    paths = [tmp_path / "teacher.onnx", tmp_path / "student.onnx"]
    for path, weight in zip(paths, (wanted, 0.5 * wanted), strict=True):
        text = (
            f'<ir_version: 8, opset_import: ["" : 17]> g (float[{batch}, 6] x) => (float[{batch}, 3] y) '
            "<float[6, 3] w, int64[1] axes = {0}> "
            "{ m = MatMul(x, w) a = ReduceMax <keepdims = 1, axes = [0]> (x) s = ReduceSum(a, axes) "
            "z = Mul(s, s) n = ReduceMean <keepdims = 1, axes = [0, 1]> (z) t = Tanh(n) y = Add(m, t) }"
        )
        proto = onnx.parser.parse_model(text)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        onnx.save(proto, path)
    np.savez(tmp_path / "x.npz", x=random.normal(size=(200, 6)).astype(np.float32))
    told = trained(paths[1], data=tmp_path / "x.npz", steps=60, lr=3e-2, teacher=str(paths[0]), losses=("mse",))
    training = told.as_dict()["training"]
    assert training["held_back_after"] < 0.2 * training["held_back_before"]


@pytest.mark.parametrize(
    ("inside", "at_once"),
    [
        ("h = Relu(p)", True),
        ("l = Less(p, p) i = Cast <to = 7> (l) n = ReduceSum <keepdims = 0> (i) h = Gather(p, n)", True),
        ("l = Less(p, p) i = Cast <to = 7> (l) n = ReduceSum <keepdims = 0> (i) h = CumSum(p, n)", False),
    ],
)
def test_runs_of_one_sample_are_made_at_once_where_operators_allow_it(inside: str, at_once: bool) -> None:
    """Values and gradients are those of one run after the other."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 6] x) => (float[1, 3] y) <float[6, 3] w> '
        f"{{ p = MatMul(x, w) {inside} a = Softmax <axis = 0> (p) y = Add(h, a) }}"
    )
    proto, random = onnx.parser.parse_model(text), np.random.default_rng(0)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=(6, 3)).astype(np.float32), "w"))
    model = from_proto(proto)
    student = Student(model, weights_to_train(model), statistics=False, method=Method())
    x = random.normal(size=(5, 6)).astype(np.float32)
    found = []
    ways: list[Callable[[], Mapping[str, torch.Tensor]]] = [
        lambda: student.in_parts({"x": x}, 1),
        lambda: student._in_turn({"x": x}, 1, False),
    ]
    for each in ways:
        y = each()["y"]
        (gradient,) = torch.autograd.grad(y.square().sum(), student.parameters)
        found.append((y.detach(), gradient))
    assert student._at_once is at_once
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_that_is_none_is_refused(narrow: Path, tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    file.write_bytes(b"not a state")
    with pytest.raises(UsageError, match="no state of training"):
        trained(narrow, steps=2, teacher=str(DIGITS), checkpoint=str(file))


def test_what_gains_nothing_is_not_written(tmp_path: Path) -> None:
    """The original cannot come nearer to itself."""
    with pytest.raises(NothingChanged, match="gained nothing"):
        trained(DIGITS, steps=3, teacher=str(DIGITS))


def test_a_step_size_that_is_far_too_large_ends_with_an_error(narrow: Path) -> None:
    with pytest.raises(IntaglioError, match="step"):
        trained(narrow, steps=6, teacher=str(DIGITS), lr=1e20, clip=0.0)


def test_noise_is_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"])
    flat = onnx.helper.make_node("Flatten", ["p"], ["f"])
    gemm = onnx.helper.make_node("Gemm", ["f", "w", "b"], ["y"])
    weights: dict[str, np.ndarray] = {
        "w": np.ones((3, 4), np.float32) * np.arange(4, dtype=np.float32),
        "b": np.zeros(4, np.float32),
    }
    graph = onnx.helper.make_graph(
        [node, flat, gemm],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", 4])],
        [onnx.numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    noise = np.random.default_rng(0).normal(size=(64, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "noise.npz", x=noise, labels=np.zeros(64, np.int64))
    with pytest.raises(BadData, match="noise"):
        trained(path, data=tmp_path / "noise.npz", steps=2)


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({}, CALIB, "labels"),
        ({"losses": ("kd",)}, TEST, "needs a teacher"),
        ({"losses": ("ce",), "teacher": str(DIGITS)}, CALIB, "needs labels"),
        ({"teacher": str(EXAMPLES / "attention.onnx")}, TEST, "other inputs"),
        ({"augmentations": ("sharpen",)}, TEST, "no augmentation"),
    ],
)
def test_what_does_not_go_together_is_told(options: dict[str, Any], data: Path, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trained(DIGITS, data=data, steps=1, **options)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_a_sample_is_changed_alike_in_every_batch(name: str) -> None:
    images = np.random.default_rng(1).normal(size=(9, 3, 12, 10)).astype(np.float32)
    augmented = Augmented([AUGMENTATIONS[name]], 9, seed=4)
    whole = augmented({"x": images}, np.arange(9), 2)["x"]
    places = np.array([7, 2, 5])
    part = augmented({"x": images[places]}, places, 2)["x"]
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    assert np.array_equal(part, whole[places])
    assert not np.array_equal(whole, images)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_channels_may_come_last(name: str) -> None:
    images = np.random.default_rng(1).normal(size=(9, 12, 10, 3)).astype(np.float32)
    augmented = Augmented([AUGMENTATIONS[name]], 9, seed=4)
    first, last = (augmented({"x": x}, np.arange(9), 1)["x"] for x in (np.moveaxis(images, 3, 1), images))
    assert np.array_equal(np.moveaxis(first, 1, 3), last)


def test_a_recipe_trains_what_it_pruned(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "passes:\n- pass: prune\n  target: macs\n  keep: 0.12\n  criterion: l1\n"
        f"- pass: train\n  teacher: {DIGITS}\n  steps: 40\n  batch: 32\n"
    )
    done = compress(DIGITS, tmp_path / "out", recipe=str(recipe), data=str(TEST), measure=False)
    assert [step["pass"] for step in done.as_dict()["steps"]] == ["prune", "train"]
    assert accuracy(tmp_path / "out" / "model.onnx") > 0.8


def test_every_loss_is_zero_or_least_where_the_teacher_is_reached() -> None:
    draw = torch.Generator().manual_seed(3)
    theirs = {"y": torch.randn(5, 7, generator=draw), "z": 3 * torch.randn(5, 9, 11, generator=draw)}
    inner = {"f": torch.randn(5, 6, 4, 4, generator=draw)}
    tokens = torch.cat([torch.zeros(5, 1, dtype=torch.int64), theirs["z"].argmax(2)[:, :-1]], 1)
    for name in LOSSES:
        labels = theirs["y"].argmax(1)
        near, far = (
            LOSSES[name](
                Answers(
                    {n: v + size * torch.randn(v.shape, generator=draw) for n, v in theirs.items()},
                    theirs,
                    labels,
                    "y",
                    False,
                    features={n: v + size * torch.randn(v.shape, generator=draw) for n, v in inner.items()},
                    inner=inner,
                    tokens=tokens,
                )
            )
            for size in (0.0, 2.0)
        )
        assert float(near) < float(far), name


def test_channels_that_pruning_kept_are_found_again(narrow: Path) -> None:
    """By what they answer, without being told which, and though they were changed since."""
    assert len(shared_features(load(narrow), load(DIGITS))) >= 3
    random = np.random.default_rng(2)
    theirs = random.normal(size=(8, 24, 4, 4))
    kept = np.sort(random.permutation(24)[:10])
    ours = 0.7 * theirs[:, kept] + 0.5 * random.normal(size=(8, 10, 4, 4)) + 3
    assert np.array_equal(kept_channels(ours, theirs), kept)


@pytest.mark.parametrize("loss", ["ikd:gamma=1", "features", "attention", "crd", "cka"])
def test_inner_tensors_come_nearer(narrow: Path, loss: str) -> None:
    told = trained(narrow, steps=12, lr=2e-3, teacher=str(DIGITS), losses=(loss,)).as_dict()["training"]
    assert told["held_back_after"] < 0.98 * told["held_back_before"]


def test_mixed_samples_are_learned_too(narrow: Path, tmp_path: Path) -> None:
    """With the labels of both, or what a teacher says of the mixture."""
    for how in ({"teacher": str(DIGITS)}, {"losses": ("ce:smoothing=0.1",)}):
        told = trained(narrow, steps=30, lr=3e-3, mixup=0.4, **how).as_dict()["training"]
        assert told["held_back_after"] < told["held_back_before"]


def test_a_language_model_learns_the_next_token(tmp_path: Path) -> None:
    """Tokens that count round a circle; no labels, no teacher."""
    random = np.random.default_rng(1)
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N, 6] x) => (float[N, 6, 5] y) '
        "<float[5, 8] e, float[8, 5] w> { h = Gather(e, x) t = Tanh(h) y = MatMul(t, w) }"
    )
    proto = onnx.parser.parse_model(text)
    for name, shape in (("e", (5, 8)), ("w", (8, 5))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    onnx.save(proto, tmp_path / "lm.onnx")
    tokens = (random.integers(5, size=(256, 1)) + np.arange(6)) % 5
    np.savez(tmp_path / "t.npz", x=tokens)
    out = tmp_path / "out.onnx"
    trained(tmp_path / "lm.onnx", out, data=tmp_path / "t.npz", steps=60, lr=3e-2)
    (scores,) = run_session(open_session(out), {"x": tokens}).values()
    assert (scores[:, :-1].argmax(2) == tokens[:, 1:]).all()


def test_a_recipe_of_minutes_tells_the_steps(narrow: Path, tmp_path: Path) -> None:
    out = tmp_path / "trained.onnx"
    report = trained(narrow, out, minutes=0.02, teacher=str(DIGITS))
    meta = {p.key: p.value for p in onnx.load(out).metadata_props}
    (told,) = json.loads(meta["intaglio.recipe"])["passes"]
    assert told["steps"] == report.as_dict()["training"]["steps"]
    assert "minutes" not in told


def test_transformers_are_trained_too(tmp_path: Path) -> None:
    path = tmp_path / "narrow.onnx"
    run(VIT, PruneChannels(target="params", keep=0.7, criterion="l1"), out=path, measure=False)
    told = trained(path, steps=10, teacher=str(VIT), lr=2e-3).as_dict()["training"]
    assert told["held_back_after"] < told["held_back_before"]


def test_two_processes_train_the_same_model(narrow: Path, tmp_path: Path) -> None:
    """Each on half of every batch, but for the order of sums."""
    alone, both = tmp_path / "alone.onnx", tmp_path / "both.onnx"
    options = (
        f"{narrow} --teacher {DIGITS} --data {TEST} --steps 6 --batch 32 --no-bf16 --freeze-bn --threads 1".split()
    )
    trained(narrow, alone, steps=6, teacher=str(DIGITS), freeze_bn=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_of = [*command, "-m", "intaglio", "train", *options, "-o", str(both), "--no-measure"]
    done = subprocess.run(run_of, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    one, other = load(alone).weights, load(both).weights
    assert one.keys() == other.keys()
    for name, weight in one.items():
        np.testing.assert_allclose(other[name], weight, atol=2e-3, err_msg=name)


def test_group_sparsity_shrinks_whole_channels(tmp_path: Path) -> None:
    """Small coupled channels shrink more than large ones, in all weights that they stand on."""
    out = tmp_path / "sparse.onnx"
    trained(DIGITS, out, steps=30, lr=3e-3, clip=0.0, method={"name": "group-sparsity", "strength": 0.05})
    before, after = (analyse(load(path)) for path in (DIGITS, out))
    falls = []
    for number, group in enumerate(before.groups):
        if group.prunable:
            sizes = [
                sum(np.sqrt(m.total(np.square(m.rows).sum(1))) for m in Weights(c).group(number, gone(c), 0).members)
                for c in (before, after)
            ]
            falls.append(np.corrcoef(sizes[0], sizes[1] / sizes[0])[0, 1])
    assert np.mean(falls) > 0.3


def gone(coupling: Coupling) -> Removal:
    return Removal(coupling, coupling.nothing())


def test_slimming_draws_scales_to_zero(tmp_path: Path) -> None:
    out = tmp_path / "slim.onnx"
    trained(DIGITS, out, steps=30, lr=3e-3, method={"name": "slimming", "strength": 0.1})
    sums = []
    for path in (DIGITS, out):
        model = load(path)
        nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
        sums.append(sum(float(abs(model.weights[node.input[1]]).sum()) for node in nodes))
    assert sums[1] < 0.95 * sums[0]
