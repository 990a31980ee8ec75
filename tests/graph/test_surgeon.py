"""A model goes through onnx-graphsurgeon and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from intaglio.graph.io.load import load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.graph.surgeon import from_graphsurgeon, to_graphsurgeon

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def outputs(model: Model) -> np.ndarray:
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    with np.load(EXAMPLES / "digits_test.npz") as data:
        (logits,) = session.run(None, {"image": data["image"][:32]})
    return np.asarray(logits)


def test_an_edit_made_with_graphsurgeon_comes_back() -> None:
    model = load(EXAMPLES / "digits.onnx")
    graph = to_graphsurgeon(model)
    first = next(n for n in graph.nodes if n.op == "Conv")
    assert np.array_equal(outputs(from_graphsurgeon(graph)), outputs(model))
    first.inputs[1].values = first.inputs[1].values * 0
    assert not np.array_equal(outputs(from_graphsurgeon(graph)), outputs(model))
