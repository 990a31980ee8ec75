"""Whole networks compute in torch what ONNX Runtime computes, shapes worked out on the way included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch

from intaglio.graph.errors import IntaglioError
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.autograd.network import Network
from intaglio.measure.run.session import open_session, run
from intaglio.measure.run.tensor_specs import input_specs

from ...graph.bodies import BODIES

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


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_run_as_far_as_they_go(name: str, tmp_path: Path) -> None:
    """With gradients, and as ONNX Runtime runs them."""
    proto, feeds = BODIES[name]()
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    network = Network(model)
    for feed in feeds:
        given = {n: torch.tensor(v, requires_grad=v.dtype == np.float32) for n, v in feed.items()}
        wanted, found = (
            run(open_session(model), feed),
            network({**feed, **{n: v for n, v in given.items() if v.requires_grad}}),
        )
        for output, value in found.items():
            assert value.requires_grad
            np.testing.assert_allclose(value.detach().numpy(), wanted[output], rtol=1e-5, atol=1e-6)


def test_what_a_body_has_no_definition_for_is_named() -> None:
    proto, _ = BODIES["If"]()
    proto.graph.node[2].attribute[0].g.node[1].op_type = "Hardmax"
    with pytest.raises(IntaglioError, match="cannot pass Hardmax"):
        Network(Model(proto, {}))
