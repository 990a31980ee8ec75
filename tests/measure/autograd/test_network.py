"""Whole networks compute in torch what ONNX Runtime computes, shapes worked out on the way included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from intaglio.graph.io.load import load
from intaglio.measure.autograd.network import Network
from intaglio.measure.run.session import open_session, run
from intaglio.measure.run.tensor_specs import input_specs

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.onnx"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_examples_give_the_same_outputs(path: Path) -> None:
    model, random = load(path), np.random.default_rng(0)
    feeds = {
        spec.name: random.normal(size=[d if isinstance(d, int) else 3 for d in spec.shape or ()]).astype(spec.dtype)
        for spec in input_specs(model)
    }
    wanted, found = run(open_session(model), feeds), Network(model, trained=model.weights)({**feeds})
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.requires_grad
        np.testing.assert_allclose(value.detach().numpy(), wanted[name], rtol=1e-4, atol=1e-5)
