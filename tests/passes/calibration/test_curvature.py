"""Second derivatives along the gradient are how the gradient changes when weights move along it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: there are no gradients")

from intaglio import PruneChannels, load, run
from intaglio.measure.data.source import open_data
from intaglio.passes.base import Context
from intaglio.passes.calibration.gradients import gradients

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"


def test_it_is_a_difference_of_gradients() -> None:
    model = load(DIGITS)
    context = Context(data=open_data(str(TEST), model, samples=32))
    found = gradients(model, context, curved=True).of
    kept = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    found = {name: one for name, one in found.items() if name not in kept}
    step = 1e-4 / np.sqrt(sum(float(np.square(one.mean).sum()) for one in found.values()))
    ends = []
    for way in (1, -1):
        moved = model.copy()
        for name, one in found.items():
            moved.put(name, (model.weights[name] + way * step * one.mean).astype(np.float32))
        ends.append(gradients(moved, context).of)
    for name, one in found.items():
        difference = (ends[0][name].mean - ends[1][name].mean) / (2 * step)
        assert one.curved is not None
        apart = np.linalg.norm(difference - one.curved)
        assert apart <= 0.1 * np.linalg.norm(one.curved) + 1e-4, name


@pytest.mark.parametrize("criterion", ["snip", "grasp", "crop"])
def test_channels_go_by_gradients_of_labelled_data(criterion: str, tmp_path: Path) -> None:
    one = PruneChannels(target="macs", keep=0.5, criterion=criterion)
    out = tmp_path / "o.onnx"
    report = run(DIGITS, one, data=str(TEST), samples=64, eval_data=str(TEST), out=out, measure=False).as_dict()
    assert report["kept"]["macs"] < 0.51
    assert criterion == "grasp" or report["accuracy"]["after"]["top1"] > 0.3  # made for networks before training
