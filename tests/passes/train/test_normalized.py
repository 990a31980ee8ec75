"""Normalizations put behind convolutions are the identity, and what they learned goes into the convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

from intaglio import PruneChannels, Train, run
from intaglio.graph.errors import NothingChanged, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session
from intaglio.passes.train.normalized import fold, insert
from intaglio.passes.train.samples import Samples

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"


def convolutions() -> Model:
    """One with a bias, one without, one of groups."""
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 8, 8] x) => (float[N, 8, 8, 8] y) '
        "<float[8, 3, 3, 3] a, float[8] b, float[8, 8, 1, 1] c, float[8, 1, 3, 3] d> { "
        "p = Conv <pads = [1, 1, 1, 1]> (x, a, b) q = Relu (p) r = Conv (q, c) "
        "s = Conv <group = 8, pads = [1, 1, 1, 1]> (r, d) y = Add (s, q) }"
    )
    draw, proto = np.random.default_rng(0), onnx.parser.parse_model(text)
    for name, shape in {"a": (8, 3, 3, 3), "b": (8,), "c": (8, 8, 1, 1), "d": (8, 1, 3, 3)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name))
    return from_proto(proto)


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    return run_session(open_session(model), {"x": x})["y"]


def test_they_are_the_identity_and_go_into_the_convolutions() -> None:
    model, draw = convolutions(), np.random.default_rng(1)
    x = (2 * draw.normal(size=(40, 3, 8, 8)) + 1).astype(np.float32)
    made, inserted = insert(model, Samples("x", {"x": x}, None), None)
    assert sum(node.op_type == "BatchNormalization" for node in made.graph.node) == 3
    wanted = outputs(model, x)
    size = abs(wanted).max()
    assert abs(outputs(made, x) - wanted).max() < 2e-5 * size
    back = fold(made, inserted)
    assert [node.op_type for node in back.graph.node] == [node.op_type for node in model.graph.node]
    assert abs(outputs(back, x) - wanted).max() < 2e-5 * size
    for one in inserted:
        for name in (one.gain, one.shift, one.mean, one.variance):
            made.put(name, made.weights[name] * draw.uniform(0.5, 2, 8).astype(np.float32))
    wanted = outputs(made, x)
    assert abs(outputs(fold(made, inserted), x) - wanted).max() < 2e-5 * abs(wanted).max()


def test_statistics_are_those_of_the_samples() -> None:
    model = convolutions()
    x = np.random.default_rng(2).normal(size=(64, 3, 8, 8)).astype(np.float32)
    made, inserted = insert(model, Samples("x", {"x": x}, None), None)
    seen = run_session(open_session(made, outputs=[inserted[0].before]), {"x": x})[inserted[0].before]
    np.testing.assert_allclose(made.weights[inserted[0].mean], seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.weights[inserted[0].variance], seen.var((0, 2, 3)), rtol=1e-4)


def test_a_network_trained_with_them_has_none(tmp_path: Path) -> None:
    model, draw = convolutions(), np.random.default_rng(3)
    x = draw.normal(size=(200, 3, 8, 8)).cumsum(2).cumsum(3).astype(np.float32) / 8
    np.savez(tmp_path / "x.npz", x=x)
    (tmp_path / "teacher.onnx").write_bytes(to_bytes(model))
    for name, value in model.weights.items():
        model.put(name, value * draw.uniform(0.8, 1.2, (8, *[1] * (value.ndim - 1))).astype(np.float32))
    (tmp_path / "student.onnx").write_bytes(to_bytes(model))
    options: dict[str, Any] = {"batch": 32, "threads": 1, "steps": 80, "insert_bn": True, "freeze_bn": True}
    one = Train(teacher=str(tmp_path / "teacher.onnx"), losses=("mse",), **options)
    done = run(tmp_path / "student.onnx", one, data=str(tmp_path / "x.npz"), measure=False)
    told = done.as_dict()["training"]
    assert told["held_back_after"] < 0.7 * told["held_back_before"]
    result = done.change.model
    assert [n.op_type for n in result.graph.node] == [n.op_type for n in model.graph.node]
    wanted, before, after = (
        outputs(each, x) for each in (from_proto(onnx.load(tmp_path / "teacher.onnx")), model, result)
    )
    assert np.square(after - wanted).mean() < 0.8 * np.square(before - wanted).mean()
    with pytest.raises(NothingChanged, match="nothing to normalize"):
        run(DIGITS, Train(**options), data=str(TEST), measure=False)


def test_inputs_are_distilled_from_the_teacher(tmp_path: Path) -> None:
    """The pruned network may have no BatchNormalization any more."""
    narrow = tmp_path / "narrow.onnx"
    run(DIGITS, PruneChannels(target="macs", keep=0.12, criterion="l1"), out=narrow, measure=False)
    one = Train(teacher=str(DIGITS), dialect="distilled", steps=10, batch=16, threads=1)
    told = run(narrow, one, samples=32, measure=False).as_dict()["training"]
    assert told["samples"] + told["held_back"] == 32
    with pytest.raises(UsageError, match="runs without data"):
        run(narrow, one, data=str(TEST), measure=False)
