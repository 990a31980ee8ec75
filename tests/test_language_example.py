"""The bundled language model foresees bytes, keeps what it saw in caches, and goes through every family of passes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from intaglio.graph.coupling.caches import caches
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.base import PASSES

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL = EXAMPLES / "language.onnx"
FLOAT = 6.2


def text(name: str, model: Model, samples: int = 16) -> DataSource:
    return open_data(str(EXAMPLES / f"language_{name}.npz"), model, samples=samples)


def perplexity(model: Model, data: DataSource) -> float:
    return evaluate_model(model, data, names=["perplexity"]).values["perplexity"]


def script() -> ModuleType:
    """What trained it."""
    pytest.importorskip("torch", reason="PyTorch is not installed: the script that trains the model is not run")
    spec = importlib.util.spec_from_file_location("train_language_model", EXAMPLES / "train_language_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_it_foresees_text_that_it_was_not_trained_on() -> None:
    model = load(MODEL)
    assert MODEL.stat().st_size < 1_000_000
    assert perplexity(model, text("test", model, samples=64)) < FLOAT


def test_it_sees_no_byte_that_comes_later() -> None:
    session, rng = open_session(load(MODEL)), np.random.default_rng(0)
    tokens = rng.integers(32, 127, (2, 20))
    other = tokens.copy()
    other[:, 10:] = rng.integers(32, 127, (2, 10))
    one, two = (run(session, {"tokens": x})["logits"] for x in (tokens, other))
    np.testing.assert_array_equal(one[:, :10], two[:, :10])
    assert not np.allclose(one[:, 10:], two[:, 10:])


@pytest.mark.parametrize(
    ("name", "options", "bound"),
    [
        ("prune", {"target": "channels", "keep": 0.75, "axis": "heads"}, 1.4),
        ("factorize", {"target": "params", "keep": 0.8, "measure": False}, 1.3),
        ("quantize", {"scheme": "w4"}, 1.02),
        ("quantize", {"scheme": "dynamic"}, 1.02),
        ("binarize", {"scheme": "planes"}, 1.2),
    ],
)
def test_each_family_of_passes_leaves_a_language_model(name: str, options: dict[str, object], bound: float) -> None:
    model = load(MODEL)
    done = PASSES[name].model_validate(options).run(model, Context(data=text("calib", model)))
    test = text("test", model)
    assert done.after.of("size") < done.before.of("size")
    assert perplexity(done.model, test) < bound * perplexity(model, test)


def test_the_script_writes_a_model_and_one_with_caches_that_give_the_same(tmp_path: Path) -> None:
    made = script()
    size = made.Size(width=32, wide=32, depth=2, heads=2, context=16, steps=1, rate=1e-3)
    network = made.train([np.arange(200, dtype=np.uint8)], size, 1)
    plain, kept = tmp_path / "plain.onnx", tmp_path / "kept.onnx"
    made.export(network, size, plain)
    made.export(network, size, kept, cache=True)
    tokens = np.random.default_rng(0).integers(0, 256, (2, 7))
    whole = run(open_session(load(plain)), {"tokens": tokens})["logits"]
    model = load(kept)
    session = open_session(model)
    held = {name: np.zeros((2, 2, 0, 16), np.float32) for name in caches(model)}
    for at in range(7):
        given = run(session, {"tokens": tokens[:, at : at + 1], **held})
        held = {name: given[output] for name, output in caches(model).items()}
        np.testing.assert_allclose(given["logits"][:, 0], whole[:, at], rtol=1e-3, atol=1e-4)
