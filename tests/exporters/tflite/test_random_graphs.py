"""Random graphs over many operators, as TFLite files in LiteRT, and read again, against ONNX Runtime without optimizations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pytest

from intaglio.exporters import CannotExport
from intaglio.exporters.tflite.convert import write
from intaglio.graph.io.fix_dims import pin_shapes
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.importers import Source
from intaglio.importers.tflite.convert import model_of
from intaglio.importers.tflite.parse import parse
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import Context
from intaglio.passes.quantize import Quantize

from ...graph.coupling.random_graphs import Rolled, random_graph
from ...passes.parsed import data_for

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

SEEDS = 40
INTEGER_SEEDS = (12, 45, 57, 60, 61, 75, 120, 255, 7106, 7115)
"""Among them products of vectors, tensors of noughts, operators that are refused."""


def random_models(seeds: Iterable[int]) -> Iterator[tuple[int, Model, dict[str, np.ndarray]]]:
    for seed in seeds:
        proto, shapes = random_graph(Rolled(seed), seed)
        model = from_proto(proto).copy()
        pin_shapes(model, {name: list(shape) for name, shape in shapes.items()})
        yield seed, model, runnable_inputs(model, seed=seed)


def require_close(given: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], seed: int) -> None:
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        largest = max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(given[name], value, rtol=0, atol=1e-3 * largest, err_msg=f"{seed} {name}")


def test_random_graphs_come_out_right_and_come_back() -> None:
    from intaglio.measure.litert.session import Session

    written = 0
    for seed, model, feeds in random_models(range(SEEDS)):
        try:
            content = write(model)
        except CannotExport:
            continue
        wanted = run(open_session(model, optimize=False), feeds)
        require_close(Session(content).run(feeds), wanted, seed)
        again = model_of(parse(content), Source("model.tflite", {})).model
        require_close(run(open_session(again, optimize=False), feeds), wanted, seed)
        written += 1
    assert written > 0.8 * SEEDS


def test_random_graphs_of_integers_come_out_right() -> None:
    from intaglio.measure.litert.session import Session

    for seed, model, feeds in random_models(INTEGER_SEEDS):
        wish = Quantize(target="tflite", ranges="minmax", method="nearest", verify=False)
        model = wish.run(model, Context(data=data_for(model, **feeds))).model
        try:
            content = write(model)
        except CannotExport:
            continue
        wanted, given = run(open_session(model, optimize=False), feeds), Session(content).run(feeds)
        for name, value in wanted.items():
            assert np.square(given[name] - value).sum() <= 0.01 * max(1e-9, np.square(value).sum()), f"{seed} {name}"
