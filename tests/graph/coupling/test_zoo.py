"""Every network of the zoo loses half of every width, and equals the masked original on every tensor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from intaglio.graph.cost import cost
from intaglio.graph.coupling import Removal, analyse, mask_removed, remove
from intaglio.graph.io.load import load
from intaglio.graph.io.save import to_bytes
from intaglio.passes import Context
from intaglio.passes.live import live_part
from intaglio.passes.prune import PruneChannels
from tests import zoo

from .equality import first_difference

ALL = os.environ.get("INTAGLIO_ZOO") == "all"
"""Every exporter instead of one a network, in turn."""
A_QUARTER = 0.75
STAYS: dict[str, str] = {
    "hand_function": "a call of a model-local function is an operator without a rule",
    "hand_if": "both branches read the features",
    "hand_loop": "the loop body reads and carries the features",
    "hand_qdq_linear": "one weight is quantized in blocks",
    "hand_scan": "the body reads the features",
    "hand_sequence_values": "sequences have no shape",
    "hand_weight_as_input": "the weight is a graph input",
    "hand_weight_read_twice": "the weight's rows are ranked by ArgMax too",
}
"""Networks that may lose less than a quarter of their parameters, and why."""


def cases() -> list[Any]:
    found = []
    for name in zoo.names():
        entry = zoo.entry(name)
        chosen = entry.exporters if ALL else (entry.exporter,)
        found += [pytest.param(name, exporter, id=f"{name}-{exporter}") for exporter in chosen]
    return found


@pytest.mark.parametrize(("name", "exporter"), cases())
def test_half_of_every_width_goes_with_proof(zoo_folder: Path, name: str, exporter: str) -> None:
    path = zoo.build(name, exporter, zoo_folder)
    model = load(path)
    feeds = zoo.random_inputs(path, seed=0)
    coupling = analyse(model)
    assert coupling.trace.failures == []
    before = _run(to_bytes(model), feeds)
    if not any(g.prunable for g in coupling.groups):
        assert name in STAYS
        return
    for criterion, seed, exact_only in (("l2", 0, False), ("random", 1, False), ("random", 2, True)):
        if exact_only and not any(g.prunable and g.exact for g in coupling.groups):
            continue
        options = {"target": "channels", "keep": 0.5, "criterion": criterion, "exact_only": exact_only, "verify": False}
        removal = PruneChannels.model_validate(options).cut(live_part(model), Context(seed=seed)).removal
        pruned = remove(removal)
        after = _run(to_bytes(pruned), feeds)
        assert [v.shape for v in before] == [v.shape for v in after]
        assert first_difference(removal, pruned, feeds) is None
        if not exact_only:
            assert cost(pruned).params <= A_QUARTER * cost(model).params or name in STAYS


def test_what_stays_is_in_the_zoo() -> None:
    assert STAYS.keys() <= set(zoo.names())


def _run(model: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [v for v in session.run(None, feeds) if isinstance(v, np.ndarray)]


LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models_lose_half_of_every_width(path: Path) -> None:
    """Their weights are made by ConstantOfShape, so that the surgery edits shapes."""
    model = load(path)
    coupling = analyse(model)
    removed = coupling.nothing()
    for group in coupling.groups:
        if group.prunable:
            removed[group.atoms[: len(group.atoms) // 2]] = True
    small = remove(Removal(coupling, removed))
    assert cost(small).params <= A_QUARTER * cost(model).params
    feeds = {
        v.name: np.random.default_rng(0).standard_normal([d.dim_value or 1 for d in v.type.tensor_type.shape.dim])
        for v in model.graph.input
    }
    inputs = {k: v.astype(np.float32) for k, v in feeds.items()}
    shapes = [v.shape for v in _run(to_bytes(model), inputs)]
    assert [v.shape for v in _run(to_bytes(small), inputs)] == shapes
    assert [v.shape for v in _run(to_bytes(mask_removed(Removal(coupling, removed))), inputs)] == shapes
