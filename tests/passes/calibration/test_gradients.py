"""Gradients of the loss are what differences of ONNX Runtime's outputs say, whatever memory there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from intaglio.graph.errors import IntaglioError
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context

pytest.importorskip("torch")

from intaglio.passes.calibration.gradients import BATCH, Gradients, gradients

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (double[{n},6] x) => (double[{n},{out}] y)'
WEIGHTS = "<double[6,5] a, double[5] b, double[5,{out}] c>"
LOGITS = "{{ h = MatMul (x, a) s = Add (h, b) t = Tanh (s) y = MatMul (t, c) }}"
CHANCES = "{{ h = MatMul (x, a) s = Add (h, b) t = Tanh (s) z = MatMul (t, c) y = Softmax (z) }}"
SAMPLES = BATCH + 5


def network(body: str, *, n: str = "N", out: int = 3) -> Model:
    """In double, so that differences are exact enough."""
    proto, random = parse_model((HEAD + WEIGHTS + body).format(n=n, out=out)), np.random.default_rng(0)
    for value in list(proto.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape), value.name))
    del proto.graph.value_info[:]
    return from_proto(proto)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {"x": random.normal(size=(SAMPLES, 6)), "labels": random.integers(0, 3, SAMPLES)}


def source(model: Model, arrays: dict[str, np.ndarray], folder: Path, *, labels: bool = True) -> DataSource:
    np.savez(folder / "x.npz", **(arrays if labels else {"x": arrays["x"]}))  # type: ignore[arg-type]
    return open_data(str(folder / "x.npz"), model)


def losses(model: Model, x: np.ndarray, labels: np.ndarray | None, kind: str) -> np.ndarray:
    """Of each sample, by ONNX Runtime and numpy."""
    y = np.asarray(run(open_session(model), {"x": x})["y"])
    if kind == "squares":
        return np.asarray(np.square(y).sum(axis=1) / 2)
    logs = np.log(y) if kind == "chances" else y - np.log(np.exp(y).sum(axis=1, keepdims=True))
    return np.asarray(-logs[np.arange(len(y)), logs.argmax(axis=1) if labels is None else labels])


def differences(model: Model, name: str, arrays: dict[str, np.ndarray], kind: str, labels: bool) -> np.ndarray:
    """Gradients of each sample's loss. Shapes: (samples, *weight)."""
    weight, step, found = model.weights[name], 1e-5, []
    for place in np.ndindex(weight.shape):
        both = []
        for sign in (1, -1):
            moved = weight.copy()
            moved[place] += sign * step
            near = Model(model.proto, {**model.weights, name: moved})
            both.append(losses(near, arrays["x"], arrays["labels"] if labels else None, kind))
        found.append((both[0] - both[1]) / (2 * step))
    return np.stack(found, axis=1).reshape(-1, *weight.shape)


@pytest.mark.parametrize(
    ("body", "out", "labels", "kind", "told"),
    [
        (LOGITS, 3, True, "logits", "the labels of the data"),
        (CHANCES, 3, True, "chances", "the labels of the data"),
        (LOGITS, 3, False, "logits", "the classes that the network itself takes"),
        (LOGITS, 1, False, "squares", "the squared norm of the outputs"),
        (LOGITS, 1, True, "squares", "the labels are not used"),
    ],
)
def test_gradients_are_differences_of_the_loss(
    arrays: dict[str, np.ndarray], tmp_path: Path, body: str, out: int, labels: bool, kind: str, told: str
) -> None:
    model = network(body, out=out)
    found = gradients(model, Context(data=source(model, arrays, tmp_path, labels=labels)))
    assert told in found.told
    assert found.of.keys() == {"a", "b", "c"}
    for name, gradient in found.of.items():
        single = differences(model, name, arrays, kind, labels)
        np.testing.assert_allclose(gradient.mean, single.mean(axis=0), rtol=1e-3, atol=1e-5)
        batches = [single[:BATCH].mean(axis=0), single[BATCH:].mean(axis=0)]
        squares = np.average(np.square(batches), axis=0, weights=[BATCH, SAMPLES - BATCH])
        np.testing.assert_allclose(gradient.squares, squares, rtol=1e-3, atol=1e-6)


def agree(one: Gradients, other: Gradients) -> None:
    assert one.of.keys() == other.of.keys()
    for name in one.of:
        for a, b in zip(one.of[name][:2], other.of[name][:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_they_do_not_depend_on_the_memory_there_is(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    model = network(LOGITS)
    data = source(model, arrays, tmp_path)
    agree(gradients(model, Context(data=data, memory=1)), gradients(model, Context(data=data)))


def test_nor_on_the_number_of_samples_that_a_model_insists_on(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Rows that only fill up the last run do not count."""
    free, fixed = network(LOGITS), network(LOGITS, n="4")
    found = [gradients(m, Context(data=source(m, arrays, tmp_path))) for m in (free, fixed)]
    agree(*found)


def test_where_no_gradient_arrives_a_user_is_told(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    model = network(
        "{{ h = MatMul (x, a) s = Add (h, b) t = MatMul (s, c) k = Cast <to = 7> (t) y = Cast <to = 11> (k) }}"
    )
    with pytest.raises(IntaglioError, match="no weight has a gradient") as caught:
        gradients(model, Context(data=source(model, arrays, tmp_path)))
    assert caught.value.fix


def test_gradients_that_are_not_finite_are_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    model = network("{{ h = MatMul (x, a) s = Add (h, b) z = Sub (s, s) r = Sqrt (z) y = MatMul (r, c) }}")
    with pytest.raises(IntaglioError, match="holds NaN or infinity"):
        gradients(model, Context(data=source(model, arrays, tmp_path)))
