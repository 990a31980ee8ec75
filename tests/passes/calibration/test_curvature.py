"""Second derivatives along the gradient are how the gradient changes when weights move along it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: there are no gradients")

from intaglio import PruneChannels, load, run
from intaglio.measure.data.source import open_data
from intaglio.passes.base import Context
from intaglio.passes.calibration.gradients import gradients

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"


def test_it_is_a_difference_of_gradients(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 6] x) => (float[N, 4] y) '
        "<float[6, 8] a, float[8, 4] b> { h = MatMul(x, a) t = Tanh(h) y = MatMul(t, b) }"
    )
    proto = onnx.parser.parse_model(text)
    for name, shape in (("a", (6, 8)), ("b", (8, 4))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=random.normal(size=(20, 6)).astype(np.float32), labels=random.integers(4, size=20))
    context = Context(data=open_data(str(tmp_path / "x.npz"), model))
    found, step = gradients(model, context, curved=True).of, 1e-2
    ends = []
    for way in (1, -1):
        moved = model.copy()
        for name, one in found.items():
            moved.put(name, (model.weights[name] + way * step * one.mean).astype(np.float32))
        ends.append(gradients(moved, context).of)
    for name, one in found.items():
        difference = (ends[0][name].mean - ends[1][name].mean) / (2 * step)
        assert one.curved is not None
        np.testing.assert_allclose(difference, one.curved, rtol=1e-2, atol=1e-2 * abs(one.curved).max())


@pytest.mark.parametrize("criterion", ["snip", "grasp", "crop"])
def test_channels_go_by_gradients_of_labelled_data(criterion: str, tmp_path: Path) -> None:
    one = PruneChannels(target="macs", keep=0.5, criterion=criterion)
    out = tmp_path / "o.onnx"
    report = run(DIGITS, one, data=str(TEST), samples=64, eval_data=str(TEST), out=out, measure=False).as_dict()
    assert report["kept"]["macs"] < 0.51
    assert criterion == "grasp" or report["accuracy"]["after"]["top1"] > 0.3  # made for networks before training
