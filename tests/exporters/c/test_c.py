"""Exported C, compiled and run: equal to ONNX Runtime, of the memory that was planned, refused where it must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio import load
from intaglio.exporters.base import EXPORTERS, CannotExport
from intaglio.graph.io.fix_dims import pin_shapes
from intaglio.graph.model import Model
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.session import open_session, run
from intaglio.passes.quantize import Quantize

EXAMPLES = Path(__file__).parents[3] / "examples"


def fixed(model: Model) -> Model:
    """The model for one sample."""
    pinned = model.copy()
    ends = [v for v in model.graph.input if v.name not in model.weights]
    pin_shapes(pinned, {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in ends})
    return pinned


def differences(model: Model, folder: Path, **options: str) -> dict[str, float]:
    """How far outputs are from ONNX Runtime's, of the largest, over three inputs."""
    exporter = EXPORTERS["c"] if not options else type(EXPORTERS["c"])(**options)
    runner = exporter.open(exporter.write(model, folder), model, 1)
    session = open_session(model)
    worst: dict[str, float] = {}
    for seed in range(3):
        inputs = runnable_inputs(model, seed=seed, batches=(1,))
        found = runner.run(inputs)
        for name, value in run(session, inputs).items():
            off = float(np.abs(value.astype("f8") - found[name]).max() / np.abs(value).max())
            worst[name] = max(worst.get(name, 0.0), off)
    return worst


@pytest.mark.parametrize("name", ["residual", "attention"])
def test_networks_of_floats_equal_those_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    worst = differences(fixed(load(EXAMPLES / f"{name}.onnx")), tmp_path / name)
    assert max(worst.values()) < 2e-6


def test_integers_come_out_as_those_of_onnx_runtime(tmp_path: Path) -> None:
    given = load(EXAMPLES / "digits.onnx")
    rounded = Quantize(input_ranges=(("image", 0.0, 16.0),)).run(given)
    worst = differences(fixed(rounded.model), tmp_path / "digits")
    assert max(worst.values()) < 1e-6


def test_what_needs_more_memory_than_allowed_is_refused(tmp_path: Path) -> None:
    model = fixed(load(EXAMPLES / "residual.onnx"))
    with pytest.raises(CannotExport, match="the arena takes"):
        differences(model, tmp_path / "small", memory="1KB")
